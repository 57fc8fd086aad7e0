"""Arguments, and the order of a run."""

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tempfile

from . import check, peer, plots, record, report, scenario
from .idle import measure_idle
from .measure import Bench, Settings, measure_load
from .process import note
from .reload import measure_reload, measure_reload_cost
from .scenario import Scenario
from .sweep import measure_offered, measure_sweep

MEASURES = {
    "load": measure_load, "idle": measure_idle, "reload": measure_reload, "reload-cost": measure_reload_cost,
    "sweep": measure_sweep, "offered": measure_offered,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the gateway beside other proxies. The method is in bench/README.md.")
    parser.add_argument("--quick", action="store_true", help="the main scenarios and peers, short: two minutes")
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


def settings_of(given: argparse.Namespace) -> Settings:
    short = given.quick or given.training
    named = None if given.peers is None else tuple(given.peers.replace("none", "").split(","))
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
    if given.training:
        return [one for one in known if one.kind == "load" and one.pinned]
    return [one for one in known if one.quick or not given.quick]


def main() -> None:
    given = arguments()
    known = scenario.load_all()
    if given.list:
        print("\n".join(f"{one.name:18} {one.title}: {', '.join(one.without)}" for one in known))
        return
    if given.check:
        found = check.problems(known, peer.load_all(), settings_of(given).programs)
        sys.exit("\n".join(found) or 0)
    if given.report:
        show(record.load(given.report), given.report)
        return
    settings, peers, chosen = settings_of(given), peer.load_all(), wanted(given, known)
    commit_note = build(given, settings)
    commit = record.commit_of(settings.programs) + commit_note
    kept = {key: value for key, value in vars(given).items() if value and key != "programs"}
    made = record.begin(kept, plain(settings), commit, record.versions(chosen, peers, settings.programs), peers)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as directory:
        with Bench(settings, peers, pathlib.Path(directory)) as bench:
            for one in chosen:
                note(f"{one.name}: {one.title}")
                result = MEASURES[one.kind](bench, one)
                made["scenarios"][one.name] = {"scenario": dataclasses.asdict(one), "result": result}
            made["disturbed"] = bench.disturbed
    made["load_average"]["after"] = os.getloadavg()
    if settings.training:
        return
    if given.no_record:
        print(report.report(made, []))
        return
    place = record.folder(commit)
    record.save(made, place)
    show(made, place)


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
