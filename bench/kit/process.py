"""Processes on chosen cores: what they spend, what they hold, how they end."""

import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

PROXY_CORE, LOAD_CORE = {0}, {1}
ALL_CORES = set(range(os.cpu_count() or 1))
TICK = 1_000_000 / os.sysconf("SC_CLK_TCK")


class Process:
    """A program that runs on given cores, with its children."""

    def __init__(self, command: list[object], cores: set[int], output: object = None, **more: object) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, cores & ALL_CORES or ALL_CORES)
            raise_limit()

        words = [str(word) for word in command]
        self.child = subprocess.Popen(words, preexec_fn=prepare, stdout=output, stderr=output, **more)
        self.pid = self.child.pid

    def tree(self) -> list[int]:
        """The process and all that descend from it."""
        found = [self.pid]
        for pid in found:
            for file in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, read(file).split())
        return found

    def cpu(self) -> tuple[float, float]:
        """User and system time of all its threads so far, in microseconds."""
        fields = [read(f"/proc/{pid}/stat").rpartition(")")[2].split() for pid in self.tree()]
        spent = [(int(one[11]), int(one[12])) for one in fields if one]
        return sum(user for user, _ in spent) * TICK, sum(system for _, system in spent) * TICK

    def rss(self) -> int:
        """Resident memory in KiB."""
        found = [re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{pid}/status")) for pid in self.tree()]
        return sum(int(one[1]) for one in found if one)

    def alive(self) -> bool:
        return self.child.poll() is None

    def stop(self) -> None:
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.tree()):
                os.kill(pid, signal.SIGKILL)
            self.child.wait()


def read(path: object) -> str:
    """The text of a file under /proc; nothing when its process has just ended."""
    try:
        return pathlib.Path(str(path)).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def raise_limit() -> int:
    """As many open files as are allowed; says how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def note(text: str) -> None:
    """Talk goes to stderr, the report to stdout."""
    print(f"  {text}", file=sys.stderr, flush=True)
