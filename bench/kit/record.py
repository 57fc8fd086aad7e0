"""What a run leaves behind: bench/runs/<date>-<commit>/ with record.json, report.md and the plots."""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

from .peer import BENCH, ROOT, Peer, tool, version_of
from .process import LOAD_CORE, PROXY_CORE
from .scenario import Scenario

GENERATORS = {"wrk": ["-v"], "h2load": ["--version"], "oha": ["--version"]}


def shell(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()


def commit_of(programs: pathlib.Path) -> str:
    """The commit that the program itself names; the sources may have moved on since it was built."""
    return re.search(r"commit: (\w+)", shell(str(programs / "tollgate"), "-V"))[1]


def machine() -> dict[str, object]:
    model = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(), "cores": os.cpu_count(), "memory_mib": int(memory[1]) // 1024,
        "kernel": platform.release(), "rustc": shell("rustc", "--version"),
    }


def versions(scenarios: list[Scenario], peers: dict[str, Peer], programs: pathlib.Path) -> dict[str, str]:
    """Of every program that takes part somewhere, and of the load generators."""
    named = {variant.partition("-")[0] for scenario in scenarios for variant in scenario.without}
    found = {}
    for name in sorted(named):
        program = peers[name].find(programs)
        if program and peers[name].version:
            found[name] = version_of([str(program), *peers[name].version])
    for name, words in GENERATORS.items():
        if program := tool(name):
            found[name] = version_of([str(program), *words])
    return found


def begin(given: object, settings: dict[str, object], commit: str, known: dict[str, str], peers: dict[str, Peer]) -> dict:
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit, "machine": machine(), "versions": known, "command": given, "settings": settings,
        "cores": {"proxy": sorted(PROXY_CORE), "load": sorted(LOAD_CORE)},
        "leave_out": {one.title: one.leaves_out for one in peers.values() if one.leaves_out and one.name in known},
        "load_average": {"before": os.getloadavg()}, "scenarios": {}, "disturbed": [],
    }


def folder(commit: str) -> pathlib.Path:
    """A new one for this run."""
    stem = f"{datetime.date.today().isoformat()}-{commit}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    runs = BENCH / "runs"
    taken = lambda name: (runs / name).exists() or (runs / f"{name}.json").exists()
    return next(runs / name for name in names if not taken(name))


def save(record: dict, place: pathlib.Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "record.json").write_text(json.dumps(record, indent=1) + "\n")


def load(place: pathlib.Path) -> dict:
    return json.loads((place / "record.json").read_text())
