"""Secrets of a run: keys, tokens, signed requests, a certificate. Made anew each time, with openssl and `tollgate token`."""

import base64
import hmac
import json
import pathlib
import re
import subprocess
import time

SECRET = "a-secret-of-the-benchmark-long-enough-for-HS256"
APP, APP_SECRET = "bench-app", "a-secret-of-an-application-in-the-benchmark"


class Identity:
    """What configuration files and requests need to know about who is calling."""

    def __init__(self, directory: pathlib.Path, tollgate: pathlib.Path) -> None:
        self.directory = directory
        self.tollgate = tollgate
        self.tokens: dict[str, str] = {}
        self.nonces = 0
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.key("RS256"))
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.key("ES256"))
        for algorithm in ("RS256", "ES256"):
            openssl("pkey", "-in", self.key(algorithm), "-pubout", "-out", self.public(algorithm))
        certificate, key = directory / "tls.crt", directory / "tls.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-keyout", key, "-out", certificate,
        )
        (directory / "tls.pem").write_text(certificate.read_text() + key.read_text())

    def key(self, algorithm: str) -> pathlib.Path:
        return self.directory / f"{algorithm}.key"

    def public(self, algorithm: str) -> pathlib.Path:
        return self.directory / f"{algorithm}.pub"

    def values(self) -> dict[str, object]:
        """For configuration files."""
        return {
            "SECRET": SECRET,
            "SECRET_BASE64": base64.b64encode(SECRET.encode()).decode(),
            "JWKS_HS256": jwks(kty="oct", alg="HS256", k=url64(SECRET.encode())),
            "JWKS_RS256": self.rsa_jwks(),
            "JWKS_ES256": self.ec_jwks(),
            "PUBLIC_RS256": self.public("RS256"),
            "PUBLIC_ES256": self.public("ES256"),
            "APP": APP,
            "APP_SECRET": APP_SECRET,
            "CERTIFICATE": self.directory / "tls.crt",
            "KEY": self.directory / "tls.key",
            "CERTIFICATE_AND_KEY": self.directory / "tls.pem",
        }

    def token(self, algorithm: str) -> str:
        """A token that holds for the whole run."""
        if algorithm not in self.tokens:
            proof = ["--secret", SECRET] if algorithm == "HS256" else ["--key", str(self.key(algorithm))]
            command = [
                str(self.tollgate), "token", "--alg", algorithm, *proof,
                "--claim", "sub=bench-user", "--claim", "iss=bench", "--expires", "1d",
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            self.tokens[algorithm] = done.stdout.strip()
        return self.tokens[algorithm]

    def signed(self, count: int, path: str, file: pathlib.Path) -> None:
        """Writes the headers of so many signed requests, a line each: time stamp, nonce, signature. No nonce comes twice."""
        stamp = str(int(time.time() * 1000))
        secret = APP_SECRET.encode()
        before = f"GET\n\n\n\n\nx-ca-key:{APP}\nx-ca-nonce:"
        after = f"\nx-ca-timestamp:{stamp}\n{path}"
        with open(file, "w") as lines:
            for number in range(self.nonces, self.nonces + count):
                nonce = f"{stamp}-{number}"
                tag = hmac.digest(secret, f"{before}{nonce}{after}".encode(), "sha256")
                lines.write(f"{stamp} {nonce} {base64.b64encode(tag).decode()}\n")
        self.nonces += count

    def rsa_jwks(self) -> str:
        said = openssl("pkey", "-pubin", "-in", self.public("RS256"), "-noout", "-text")
        modulus = bytes.fromhex(re.sub(r"[\s:]", "", re.search(r"Modulus:([\s\da-f:]+)", said)[1]))
        return jwks(kty="RSA", alg="RS256", n=url64(modulus.lstrip(b"\0")), e="AQAB")

    def ec_jwks(self) -> str:
        said = openssl("pkey", "-pubin", "-in", self.public("ES256"), "-noout", "-text")
        point = bytes.fromhex(re.sub(r"[\s:]", "", re.search(r"pub:([\s\da-f:]+)", said)[1]))
        return jwks(kty="EC", alg="ES256", crv="P-256", x=url64(point[1:33]), y=url64(point[33:]))


def openssl(*arguments: object) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True)
    return done.stdout


def url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwks(**key: str) -> str:
    return json.dumps({"keys": [key]})
