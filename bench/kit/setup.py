"""A program's files for a scenario: filled in, and judged by the program's own check."""

import pathlib
import subprocess

from . import template
from .identity import Identity
from .peer import Peer, peer_of
from .process import free_port
from .scenario import Scenario


class Refused(Exception):
    """The program's own check, or its start, refuses the configuration."""


class Setup:
    """What is needed to start a program in a scenario."""

    def __init__(
        self, variant: str, scenario: Scenario, peers: dict[str, Peer], identity: Identity, origin_port: int,
        directory: pathlib.Path, programs: pathlib.Path, repeat: int,
    ) -> None:
        self.variant, self.scenario, self.directory, self.repeat = variant, scenario, directory, repeat
        self.peer = peer_of(variant, peers)
        self.port = free_port()
        self.generation = 0
        self.file = directory / (variant + self.peer.suffix)
        self.sources = {}
        if self.peer.suffix:
            self.sources[scenario.file(variant, self.peer)] = self.file
            self.sources |= {extra: directory / extra.name for extra in scenario.extras(variant, self.peer, peers)}
        self.values = {
            **identity.values(), "DIRECTORY": directory, "FILE": self.file, "PROGRAM": self.peer.find(programs),
            "LISTEN": f"127.0.0.1:{self.port}", "LISTEN_PORT": self.port, "ADMIN_PORT": free_port(),
            "ORIGIN": f"127.0.0.1:{origin_port}", "ORIGIN_PORT": origin_port, "WORKERS": scenario.workers,
        }
        directory.mkdir(parents=True)
        self.write()

    def write(self) -> None:
        """Its files. One that is watched must never be seen half written, so each comes into place by a rename."""
        values = {**self.values, "GENERATION": self.generation}
        for source, file in self.sources.items():
            written = file.with_name(f".{file.name}.new")
            written.write_text(template.fill(source.read_text(), values, self.repeat))
            written.rename(file)

    def check(self) -> None:
        """Raises what the program has against the file."""
        if not self.peer.check:
            return
        done = subprocess.run(self.command(self.peer.check), capture_output=True, text=True, cwd=self.directory)
        if done.returncode:
            raise Refused((done.stdout + done.stderr).replace(f"{self.directory}/", "").strip())

    def command(self, words: list[str]) -> list[str]:
        return [self.filled(word) for word in words]

    def environment(self) -> dict[str, str]:
        return {name: self.filled(value) for name, value in self.peer.environment.items()}

    def filled(self, word: str) -> str:
        return template.fill(word, self.values, 0).strip()
