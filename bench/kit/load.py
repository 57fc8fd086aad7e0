"""Load generators: wrk for most, h2load for HTTP/2, openssl for handshakes, oha beside wrk and for a fixed offered load.

Each says what it counted in the same words: requests, seconds, per_second, p50_us to max_us; failed: requests that were
not answered as they should; late: answers that took over two seconds.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess

from .identity import APP, Identity
from .peer import tool
from .process import ALL_CORES, LOAD_CORE
from .scenario import Scenario

LUA = pathlib.Path(__file__).resolve().parent / "lua"
MOST_PER_SECOND = 100_000  # signed requests are made in advance: enough for any program here
Counted = dict[str, float]


@dataclasses.dataclass
class Load:
    """What is sent, and by which means."""

    scenario: Scenario
    identity: Identity
    directory: pathlib.Path
    keys: int = 1
    connections: int = 0

    def __post_init__(self) -> None:
        self.connections = self.connections or self.scenario.connections

    def run(self, port: int, seconds: int) -> Counted:
        """As the scenario has it."""
        return {"h2load": self.h2load, "openssl": self.handshakes, "wrk": self.wrk}[self.generator()](port, seconds)

    def generator(self) -> str:
        request = self.scenario.request
        if request.http2:
            return "h2load"
        return "openssl" if request.tls and request.close else "wrk"

    def fits_oha(self) -> bool:
        """oha is installed, and sends what the scenario asks for: it makes one request over HTTP/1."""
        request = self.scenario.request
        return bool(tool("oha")) and not request.script and self.generator() == "wrk"

    def wrk(self, port: int, seconds: int) -> Counted:
        request = self.scenario.request
        script = request.script or ("body" if request.body else "report")
        environment = {
            **os.environ, "BENCH_LUA": str(LUA), "BENCH_METHOD": request.method, "BENCH_BODY": str(request.body),
            "BENCH_KEYS": str(self.keys), "BENCH_APP": APP,
        }
        if script == "signed":
            signed = self.directory / "signed"
            self.identity.signed((seconds + 1) * MOST_PER_SECOND, request.path, signed)
            environment["BENCH_SIGNED"] = str(signed)
        command = ["wrk", "-t", "1", "-c", str(self.connections), "-d", f"{seconds}s", "-s", str(LUA / f"{script}.lua")]
        said = self.call([*command, *self.headers(), self.url(port)], environment)
        found = json.loads(re.search(r"^kit (.+)$", said, re.M)[1])
        failed = sum(found.pop(kind) for kind in ("connect", "read", "write", "status"))
        return {**found, "per_second": found["requests"] / found["seconds"], "failed": failed, "late": found.pop("timeout")}

    def h2load(self, port: int, seconds: int) -> Counted:
        """As many requests at once as connections elsewhere, several on each connection."""
        log = self.directory / "h2load.log"
        log.unlink(missing_ok=True)
        streams = self.scenario.request.streams
        command = ["h2load", "-t", "1", "-c", str(self.connections // streams), "-m", str(streams), "-D", str(seconds)]
        said = self.call([*command, f"--log-file={log}", *self.headers(), self.url(port)])
        took = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
        good, *bad = (int(count) for count in re.search(r"codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", said).groups())
        broken = int(re.search(r"(\d+) failed,", said)[1])
        return {
            "seconds": seconds, "requests": good, "per_second": good / seconds,
            "failed": sum(bad) + broken, "late": 0, **percentiles(took),
        }

    def handshakes(self, port: int, seconds: int) -> Counted:
        """A new connection for each request, and never a resumed session: openssl's own client, several at once."""
        clients = 4
        command = ["openssl", "s_time", "-new", "-connect", f"127.0.0.1:{port}", "-www", self.scenario.request.path]
        command += ["-time", str(seconds), "-tls1_3"]
        started = [self.start(command) for _ in range(clients)]
        counted = 0
        for client in started:
            said, complaint = client.communicate()
            found = re.search(r"(\d+) connections in \d+ real seconds, (\d+) bytes read per connection", said)
            if client.returncode or not found or int(found[2]) == 0:
                raise RuntimeError(f"openssl ended with {client.returncode}\n{said[-1000:]}{complaint[-1000:]}")
            counted += int(found[1])
        # It takes no times of its own.
        return {"seconds": seconds, "requests": counted, "per_second": counted / seconds, "failed": 0, "late": 0}

    def oha(self, port: int, seconds: int, rate: int = 0) -> Counted:
        """As fast as it goes, or at a fixed rate: then waiting for a free connection counts as latency."""
        request = self.scenario.request
        command = [str(tool("oha")), "--no-tui", "--output-format", "json", "-c", str(self.connections), "-z", f"{seconds}s"]
        command += ["-q", str(rate), "--latency-correction"] if rate else []
        command += ["--disable-keepalive"] if request.close else []
        command += ["--insecure"] if request.tls else []
        command += ["-m", request.method, *self.headers()]
        if request.body:
            body = self.directory / "body"
            body.write_bytes(b"x" * request.body)
            command += ["-D", str(body)]
        found = json.loads(self.call([*command, self.url(port)]))
        codes = found["statusCodeDistribution"]
        good = sum(count for code, count in codes.items() if code.startswith("2"))
        broken = sum(count for error, count in found["errorDistribution"].items() if "deadline" not in error)
        took = found["latencyPercentiles"]
        times = {name: (took[key] or 0) * 1e6 for name, key in [("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9")]}
        return {
            "seconds": found["summary"]["total"], "requests": good, "per_second": good / found["summary"]["total"],
            "failed": sum(codes.values()) - good + broken, "late": 0, **times,
        }

    def url(self, port: int) -> str:
        return f"{'https' if self.scenario.request.tls else 'http'}://127.0.0.1:{port}{self.scenario.request.path}"

    def headers(self) -> list[str]:
        request = self.scenario.request
        found = ["-H", f"Authorization: Bearer {self.identity.token(request.token)}"] if request.token else []
        return found + (["-H", "Connection: close"] if request.close else [])

    def call(self, command: list[str], environment: dict[str, str] | None = None) -> str:
        """What the generator says."""
        generator = self.start(command, environment)
        said, complaint = generator.communicate()
        if generator.returncode:
            raise RuntimeError(f"{command[0]} ended with {generator.returncode}\n{said[-1000:]}{complaint[-1000:]}")
        return said

    def start(self, command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts the generator on its own core, or on all when the scenario pins nothing."""
        cores = (LOAD_CORE & ALL_CORES or ALL_CORES) if self.scenario.pinned else ALL_CORES
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )


def percentiles(took: list[int]) -> Counted:
    """Of sorted times in microseconds."""
    if not took:
        return {}
    at = lambda share: took[min(len(took) - 1, int(len(took) * share))]
    return {"p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": took[-1]}
