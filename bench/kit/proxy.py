"""A program under test: started with its files, asked whether it does the work."""

import functools
import http.client
import os
import socket
import ssl
import subprocess

from .identity import Identity
from .process import ALL_CORES, PROXY_CORE, Process, wait_for
from .setup import Refused, Setup


class Misbehaves(Exception):
    """The program runs and does not do what the scenario asks of it."""


class Proxy(Process):
    """A running program that answers."""

    def __init__(self, setup: Setup, identity: Identity, start: list[str] | None = None) -> None:
        self.setup, self.identity = setup, identity
        self.variant, self.scenario, self.port, self.directory = setup.variant, setup.scenario, setup.port, setup.directory
        self.output = open(self.directory / "output.log", "ab")
        cores = PROXY_CORE if self.scenario.pinned else ALL_CORES
        command = setup.command(start or setup.peer.start)
        if self.scenario.request.tls and not setup.peer.suffix:
            command += setup.command(["@CERTIFICATE@", "@KEY@"])
        super().__init__(command, cores, self.output, env={**os.environ, **setup.environment()}, cwd=self.directory)
        if not wait_for(lambda: self.answers() or not self.alive(), 60) or not self.alive():
            said = self.said()
            self.stop()
            raise Refused(f"does not answer: {said}")

    def answers(self) -> bool:
        try:
            return self.status("/") > 0
        except (OSError, http.client.HTTPException):
            return False

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return self.ask(path, headers)[0]

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        if self.scenario.request.http2 and not self.scenario.request.tls:
            return self.ask_by_prior_knowledge(path, headers or {})
        if self.scenario.request.tls:
            client = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=unverified())
        else:
            client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            client.request("GET", path, headers=headers or {})
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def ask_by_prior_knowledge(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """The same where nothing but HTTP/2 is spoken."""
        command = ["curl", "-sS", "--noproxy", "*", "--max-time", "5", "--http2-prior-knowledge", "-w", "%{http_code}"]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run([*command, f"http://127.0.0.1:{self.port}{path}"], capture_output=True, check=False)
        if done.returncode:
            raise ConnectionError(done.stderr.decode(errors="replace"))
        return int(done.stdout[-3:]), done.stdout[:-3]

    def prove(self) -> None:
        """That it refuses what it has to refuse: who is compared does the work. The bare proxy forwards everything."""
        request = self.scenario.request
        if not self.setup.peer.suffix:
            return
        if request.token:
            token = self.identity.token(request.token)
            head, _, signature = token.rpartition(".")
            forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
            for headers in ({}, {"Authorization": f"Bearer {forged}"}):
                self.expect(request.path, headers, (401, 403))
            self.expect(request.path, {"Authorization": f"Bearer {token}"}, (200,))
        elif request.script == "signed":
            self.expect(request.path, {}, (401, 403))
        if request.not_found:
            self.expect(request.not_found, {}, (404, 500))  # 500 is what Pingap says

    def expect(self, path: str, headers: dict[str, str], statuses: tuple[int, ...]) -> None:
        got = self.status(path, headers)
        if got not in statuses:
            raise Misbehaves(f"{path} with {sorted(headers) or 'no headers'} is answered with {got}, not {statuses}")

    def resumes(self) -> bool:
        """Whether it lets a TLS session be resumed, which would spare a client the handshake that is measured."""
        context, session, resumed = unverified(), None, False
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
                with context.wrap_socket(plain, session=session) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                    while client.recv(4096):
                        pass
                    session, resumed = client.session, client.session_reused
        return bool(resumed)

    def said(self) -> str:
        """The end of what it wrote, for a complaint."""
        files = [self.directory / "messages.log", self.directory / "error.log", self.directory / "output.log"]
        return "\n".join(file.read_text(errors="replace")[-1500:].strip() for file in files if file.exists())

    def forget_logs(self) -> None:
        """Logs grow by gigabytes otherwise."""
        for file in [*self.directory.glob("access.log*"), self.directory / "output.log"]:
            os.truncate(file, 0)


@functools.cache
def unverified(*protocols: str) -> ssl.SSLContext:
    """Asks for no certificate it could trust: ours is made for the run. Offers these protocols (ALPN)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
