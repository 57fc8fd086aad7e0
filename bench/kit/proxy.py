"""A program under test: its configuration filled in, judged by its own check, started, asked whether it does the work."""

import http.client
import os
import pathlib
import socket
import ssl
import subprocess

from . import template
from .identity import Identity
from .peer import Peer, peer_of
from .process import ALL_CORES, PROXY_CORE, Process, free_port, wait_for
from .scenario import Scenario


class Refused(Exception):
    """The program's own check, or its start, refuses the configuration."""


class Misbehaves(Exception):
    """The program runs and does not do what the scenario asks of it."""


class Proxy(Process):
    """A running program that answers as the scenario wants it."""

    def __init__(
        self, variant: str, scenario: Scenario, peers: dict[str, Peer], identity: Identity, setting: dict[str, object],
        directory: pathlib.Path, programs: pathlib.Path, repeat: int | None = None, start: list[str] | None = None,
    ) -> None:
        self.variant, self.scenario, self.peer, self.identity = variant, scenario, peer_of(variant, peers), identity
        self.directory = directory
        directory.mkdir(parents=True)
        self.port = free_port()
        self.generation = 0
        self.repeat = scenario.repeat if repeat is None else repeat
        self.values = {
            **identity.values(), **setting, "DIRECTORY": directory, "LISTEN": f"127.0.0.1:{self.port}", "LISTEN_PORT": self.port,
            "ADMIN_PORT": free_port(), "WORKERS": scenario.workers, "PROGRAM": self.peer.find(programs), "GENERATION": 0,
        }
        self.source = scenario.file(variant, self.peer)
        self.file = directory / (variant + self.peer.suffix)
        self.values["FILE"] = self.file
        self.extras = scenario.extras(variant, self.peer, peers) if self.peer.suffix else []
        self.write()
        self.output = open(directory / "output.log", "ab")
        self.check()
        environment = {**os.environ, **{name: self.filled(value) for name, value in self.peer.environment.items()}}
        cores = PROXY_CORE if scenario.pinned else ALL_CORES
        super().__init__(self.command(start or self.start_words()), cores, self.output, env=environment, cwd=directory)
        if not wait_for(lambda: self.answers() or not self.alive(), 60) or not self.alive():
            said = self.said()
            self.stop()
            raise Refused(f"does not answer: {said}")

    def write(self) -> None:
        """Its files, filled in. A watched file must never be seen half written, so each comes into place by a rename."""
        sources = [(self.source, self.file)] if self.peer.suffix else []
        for source, file in sources + [(extra, self.directory / extra.name) for extra in self.extras]:
            written = file.with_name(f".{file.name}.new")
            written.write_text(template.fill(source.read_text(), self.values, self.repeat))
            written.rename(file)

    def start_words(self) -> list[str]:
        tls = ["@CERTIFICATE@", "@KEY@"] if self.scenario.request.tls and not self.peer.suffix else []
        return self.peer.start + tls

    def filled(self, word: str) -> str:
        return template.fill(word, self.values, 0).strip()

    def command(self, words: list[str]) -> list[str]:
        return [self.filled(word) for word in words]

    def check(self) -> None:
        if not self.peer.check:
            return
        done = subprocess.run(self.command(self.peer.check), capture_output=True, text=True, cwd=self.directory)
        if done.returncode:
            raise Refused((done.stdout + done.stderr).replace(f"{self.directory}/", "").strip())

    def answers(self) -> bool:
        try:
            return self.status("/") > 0
        except (OSError, http.client.HTTPException):
            return False

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return self.ask(path, headers)[0]

    def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own."""
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

    def prove(self) -> None:
        """That it refuses what it has to refuse: who is compared does the work. The bare proxy forwards everything."""
        request = self.scenario.request
        if not self.peer.suffix:
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
            self.expect(request.not_found, {}, (404,))

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
        for file in (self.directory / "access.log", self.directory / "output.log"):
            if file.exists():
                os.truncate(file, 0)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
