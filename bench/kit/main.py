"""Arguments, and the order of a run."""

import argparse
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from . import check, peer, plots, record, report, scenario
from .goals import OURS
from .idle import measure_idle
from .measure import Bench, Settings, measure_load
from .process import note
from .proxy import Misbehaves
from .reload import measure_reload, measure_reload_cost
from .scenario import Scenario
from .setup import Refused
from .sweep import measure_offered, measure_sweep

MEASURES = {
    "load": measure_load, "idle": measure_idle, "reload": measure_reload, "reload-cost": measure_reload_cost,
    "sweep": measure_sweep, "offered": measure_offered,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the gateway beside other proxies. The method is in bench/README.md.")
    parser.add_argument("--quick", action="store_true", help="the main scenarios and peers, short: two minutes")
    parser.add_argument("--goals", action="store_true", help="every scenario with a goal, beside the programs that goals name")
    parser.add_argument("--only", action="append", metavar="SCENARIO", help="this scenario, with all it is compared with; may be repeated")
    parser.add_argument("--peers", help="these peers only, as nginx,envoy; none: the gateway and the bare proxy alone")
    parser.add_argument("--rounds", type=int, help="rounds in a scenario (7; quick: 3)")
    parser.add_argument("--seconds", type=int, help="length of one measurement (3; quick: 1)")
    parser.add_argument("--list", action="store_true", help="name the scenarios and who takes part, and end")
    parser.add_argument("--check", action="store_true", help="only see whether every program takes its files, and end")
    parser.add_argument("--no-build", action="store_true", help="measure the programs as they are")
    parser.add_argument("--no-record", action="store_true", help="leave nothing in bench/runs")
    parser.add_argument("--programs", type=pathlib.Path, help="where the programs are (target/release)")
    parser.add_argument("--training", action="store_true", help="load the gateway once in every scenario and judge nothing")
    parser.add_argument("--report", type=pathlib.Path, metavar="RUN", help="write report and plots of a recorded run again, and end")
    return parser.parse_args()


def settings_of(given: argparse.Namespace, known: list[Scenario]) -> Settings:
    short = given.quick or given.training
    named = None if given.peers is None else tuple(given.peers.replace("none", "").split(","))
    if named is None and given.goals:
        named = tuple(sorted({goal.against for one in wanted(given, known) for goal in one.goals if goal.against}))
    return Settings(
        rounds=given.rounds or (1 if given.training else 3 if given.quick else 7),
        seconds=given.seconds or (1 if given.quick else 3), warm_up=1 if short else 2,
        quick=given.quick, training=given.training, programs=(given.programs or peer.TARGET / "release").resolve(), peers=named,
    )


def wanted(given: argparse.Namespace, known: list[Scenario]) -> list[Scenario]:
    if given.only:
        unknown = set(given.only) - {one.name for one in known}
        if unknown:
            sys.exit(f"no such scenario: {', '.join(sorted(unknown))}; bench/run --list names them")
        return [one for one in known if one.name in given.only]
    if given.goals:
        return [one for one in known if one.goals]
    if given.training:
        return [one for one in known if one.kind == "load" and one.pinned]
    return [one for one in known if one.quick or not given.quick]


def main() -> None:
    # Ending early must end what was started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    given = arguments()
    known = scenario.load_all()
    if given.list:
        print("\n".join(f"{one.name:18} {one.title}: {', '.join(one.without)}" for one in known))
        return
    if given.check:
        found = check.problems(known, peer.load_all(), settings_of(given, known).programs)
        sys.exit("\n".join(found) or 0)
    if given.report:
        show(record.load(given.report), given.report)
        return
    settings, peers, chosen = settings_of(given, known), peer.load_all(), wanted(given, known)
    commit_note = build(given, settings)
    commit = record.commit_of(settings.programs) + commit_note
    kept = {key: value for key, value in vars(given).items() if value and key != "programs"}
    made = record.begin(kept, plain(settings), commit, record.versions(chosen, peers, settings.programs), peers)
    place = None if given.no_record or settings.training else record.folder(commit)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as directory:
        with Bench(settings, peers, pathlib.Path(directory)) as bench:
            for one in chosen:
                note(f"{one.name}: {one.title}")
                made["scenarios"][one.name] = {"scenario": dataclasses.asdict(one), "result": measured(bench, one)}
                made["disturbed"], made["load_average"]["after"] = bench.disturbed, os.getloadavg()
                if place:
                    record.save(made, place)
    if place:
        show(made, place)
    elif not settings.training:
        print(report.report(made, []))


def measured(bench: Bench, one: Scenario) -> dict:
    """A scenario that fails as a whole says so in the report; an hour's figures are not lost for it."""
    try:
        return MEASURES[one.kind](bench, one)
    except (Refused, Misbehaves, RuntimeError, OSError) as problem:
        note(f"{one.name}: {problem}")
        if bench.settings.training:
            sys.exit(1)
        return {"programs": {}, "values": {}, "over": one.over, "generator": "", "missing": {OURS: str(problem)}}


def show(made: dict, place: pathlib.Path) -> None:
    """Report and plots beside the record, and the report on the terminal."""
    drawn = plots.draw(made, place)
    text = report.report(made, drawn)
    (place / "report.md").write_text(text)
    print(text)
    print(f"Written to {os.path.relpath(place)}: record.json, report.md{''.join(f', {file}' for file in drawn)}")


def build(given: argparse.Namespace, settings: Settings) -> str:
    """Builds unless told not to; says whether the sources differ from their commit."""
    if given.no_build:
        return ""
    subprocess.run(["cargo", "build", "--release", "--bin", "tollgate", "--examples"], cwd=peer.ROOT, check=True)
    changed = record.shell("git", "status", "--porcelain", "--", "src", "bench/bare.rs", "bench/origin.rs", "Cargo.lock")
    return "-modified" if changed else ""


def plain(settings: Settings) -> dict[str, object]:
    """For the record: paths of this machine are nobody's business."""
    return {key: value for key, value in dataclasses.asdict(settings).items() if key not in ("programs", "training")}
