"""Programs that are measured: a file each under bench/peers, which says how to find, start, check and reload one."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

BENCH = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
TOOLS = TARGET / "bench-tools"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A program. In its commands @PROGRAM@ and @FILE@ are filled in like everything else in a configuration file."""

    name: str
    title: str
    program: str
    start: list[str]
    one_worker: str  # how its file says that it has one worker
    leaves_out: str = ""  # in every scenario; what else, the scenario says
    suffix: str = ""  # of its file in a scenario; none: it takes no file
    check: list[str] = dataclasses.field(default_factory=list)
    version: list[str] = dataclasses.field(default_factory=list)
    reload_signal: str = ""
    reload_command: list[str] = dataclasses.field(default_factory=list)
    reload_start: list[str] = dataclasses.field(default_factory=list)  # how it is started for reloads, if otherwise
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    ours: bool = False
    quick: bool = False
    apt: str = ""
    pip: str = ""
    cargo: list[str] = dataclasses.field(default_factory=list)
    build_apt: str = ""  # what its build needs

    def find(self, programs: pathlib.Path) -> pathlib.Path | None:
        """Where the program is; `programs` holds what cargo builds here."""
        if self.ours:
            return programs / self.program
        return tool(self.program)


@functools.cache
def load_all() -> dict[str, Peer]:
    files = sorted((BENCH / "peers").glob("*.toml"))
    return {file.stem: Peer(name=file.stem, **tomllib.loads(file.read_text())) for file in files}


def peer_of(variant: str, peers: dict[str, Peer]) -> Peer:
    """`envoy-cached` is a variant of `envoy`."""
    return peers[variant.partition("-")[0]]


def label(variant: str) -> str:
    """The name to show: `Envoy, cached`."""
    name, _, more = variant.partition("-")
    title = load_all()[name].title if name in load_all() else name
    return f"{title}, {more}" if more else title


def tool(name: str) -> pathlib.Path | None:
    """A program that the kit installed, or one of the system."""
    places = [str(TOOLS / "bin"), str(TOOLS / "python" / "bin"), os.environ.get("PATH", ""), "/usr/sbin"]
    found = shutil.which(name, path=":".join(places))
    return pathlib.Path(found) if found else None


def version_of(command: list[str]) -> str:
    """The first number that looks like a version in what the command says."""
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?(-\d+[\w+]*)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"
