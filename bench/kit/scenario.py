"""Scenarios: a folder each under bench/scenarios, with scenario.toml and one configuration file for each program."""

import dataclasses
import pathlib
import tomllib

from .peer import Peer

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "scenarios"
KINDS = ("load", "offered", "sweep", "idle", "reload", "reload-cost")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked of every program."""

    path: str = "/"
    method: str = "GET"
    body: int = 0  # bytes
    token: str = ""  # algorithm of the token it carries
    script: str = ""  # kit/lua/NAME.lua makes the requests
    tls: bool = False
    http2: bool = False
    streams: int = 8  # requests at once on a connection of HTTP/2
    close: bool = False  # a new connection for each request
    not_found: str = ""  # a path that has to answer 404


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a figure of the gateway must come to; with `against`, its ratio to that program's."""

    must: float
    aim: float | None = None
    against: str = ""
    figure: str = "cpu_us"
    note: str = ""

    @property
    def at_least(self) -> bool:
        return self.figure == "per_second"

    def met(self, value: float, limit: float | None) -> bool:
        return limit is not None and (value >= limit if self.at_least else value <= limit)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One thing to measure. `without` lists who takes part, and what each leaves out; `absent` who cannot, and why."""

    name: str
    order: int
    title: str
    does: str
    request: Request
    kind: str = "load"
    quick: bool = False
    like: tuple[str, ...] = ()  # whose files serve where this folder has none
    repeat: int = 0  # how often blocks in its files are repeated
    connections: int = 64
    workers: int = 1
    pinned: bool = True
    over: str = ""  # sweep: routes, keys or connections
    values: tuple[int, ...] = ()
    count: int = 0  # reloads
    without: dict[str, str] = dataclasses.field(default_factory=dict)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    goals: tuple[Goal, ...] = ()

    def file(self, variant: str, peer: Peer) -> pathlib.Path:
        """The program's configuration: in the scenario's own folder, or in one that it is like."""
        places = [FOLDER / name / f"{variant}{peer.suffix}" for name in (self.name, *self.like)]
        return next((place for place in places if place.exists()), places[0])

    def extras(self, variant: str, peer: Peer, peers: dict[str, Peer]) -> list[pathlib.Path]:
        """Further files beside the configuration, for maps and the like."""
        known = {peer.suffix for peer in peers.values()}
        beside = self.file(variant, peer).parent.iterdir()
        return [file for file in beside if file.suffix not in known and file.name != "scenario.toml"]


def load_all() -> list[Scenario]:
    """All scenarios, in the order in which they are measured and shown."""
    files = FOLDER.glob("*/scenario.toml")
    return sorted((load(file) for file in files), key=lambda one: (one.order, one.name))


def load(file: pathlib.Path) -> Scenario:
    table = tomllib.loads(file.read_text())
    request = Request(**table.pop("request", {}))
    goals = tuple(Goal(**goal) for goal in table.pop("goal", []))
    lists = {key: tuple(table.pop(key, ())) for key in ("like", "values")}
    scenario = Scenario(name=file.parent.name, request=request, goals=goals, **lists, **table)
    assert scenario.kind in KINDS, f"{file}: kind {scenario.kind!r}"
    return scenario
