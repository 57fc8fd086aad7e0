"""Whether scenarios and their files belong together, and every program that is installed takes its own."""

import pathlib
import tempfile

from .identity import Identity
from .peer import Peer, peer_of
from .scenario import FOLDER, Scenario
from .setup import Refused, Setup

NOT_YET = "not supported yet"  # what the gateway says of what it will do one day


def problems(scenarios: list[Scenario], peers: dict[str, Peer], programs: pathlib.Path) -> list[str]:
    """All that is wrong, a line each."""
    found = [text for scenario in scenarios for text in of_folder(scenario, peers)]
    if found:
        return found
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as name:
        directory = pathlib.Path(name)
        identity = Identity(directory, programs / "tollgate")
        for scenario in scenarios:
            for variant in scenario.without:
                if not peer_of(variant, peers).find(programs):
                    continue
                place = directory / f"{scenario.name}-{variant}"
                try:
                    Setup(variant, scenario, peers, identity, 1, place, programs, scenario.repeat or 1).check()
                except Refused as refused:
                    found += [f"{scenario.name}: {variant}: {line}" for line in serious(str(refused))]
                except KeyError as unknown:
                    found.append(f"{scenario.name}: {variant}: there is no value @{unknown.args[0]}@")
    return found


def of_folder(scenario: Scenario, peers: dict[str, Peer]) -> list[str]:
    """Who takes part has a file, and who has a file takes part."""
    listed = {variant: peer_of(variant, peers) for variant in scenario.without}
    found = [
        f"{scenario.name}: {variant} takes part and has no file"
        for variant, peer in listed.items() if peer.suffix and not scenario.file(variant, peer).exists()
    ]
    found += [
        f"{scenario.name}: goal against {goal.against}, which is nowhere named"
        for goal in scenario.goals if goal.against and goal.against not in {*listed, *scenario.absent}
    ]
    suffixes = {peer.suffix for peer in peers.values() if peer.suffix}
    files = (FOLDER / scenario.name).iterdir()
    found += [
        f"{scenario.name}: {file.name} belongs to nobody who takes part"
        for file in files if file.suffix in suffixes and file.name != "scenario.toml" and file.stem not in listed
    ]
    return found


def serious(said: str) -> list[str]:
    """What a program says, unless all it says is that something is not there yet."""
    lines = [line for line in said.splitlines() if line.strip()]
    places = [line for line in lines if ": " in line]
    return [] if places and all(NOT_YET in line for line in places) else lines[:5]
