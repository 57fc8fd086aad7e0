"""One run: the origin, the programs of a scenario, rounds over them, what was measured."""

import contextlib
import dataclasses
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

from .identity import Identity
from .load import Load
from .peer import Peer, peer_of
from .process import ALL_CORES, LOAD_CORE, Process, free_port, note, wait_for
from .proxy import Misbehaves, Proxy
from .scenario import Scenario
from .setup import Refused, Setup

Measured = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int
    seconds: int
    warm_up: int
    quick: bool
    training: bool
    programs: pathlib.Path
    peers: tuple[str, ...] | None  # None: all that are installed


class Bench:
    """What all scenarios share."""

    def __init__(self, settings: Settings, peers: dict[str, Peer], directory: pathlib.Path) -> None:
        self.settings, self.peers, self.directory = settings, peers, directory
        self.identity = Identity(directory, settings.programs / "tollgate")
        self.processes: list[Process] = []
        self.disturbed: list[dict] = []
        self.started = 0

    def __enter__(self) -> "Bench":
        for _ in range(5):
            self.origin_port = free_port()
            self.origin = Process([self.settings.programs / "examples/origin", self.origin_port], LOAD_CORE)
            self.processes.append(self.origin)
            if wait_for(lambda: listens(self.origin_port) or not self.origin.alive()) and self.origin.alive():
                return self
            self.stop(self.origin)  # Someone took the port meanwhile.
        sys.exit("the origin finds no port")

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.stop()

    def stop(self, process: Process) -> None:
        process.stop()
        self.processes.remove(process)

    def proxy(self, variant: str, scenario: Scenario, repeat: int | None = None, start: list[str] | None = None) -> Proxy:
        """Starts a program, and has it prove that it does the work."""
        self.started += 1
        directory = self.directory / f"{self.started}-{scenario.name}-{variant}"
        setup = Setup(
            variant, scenario, self.peers, self.identity, self.origin_port, directory, self.settings.programs,
            scenario.repeat if repeat is None else repeat,
        )
        setup.check()
        proxy = Proxy(setup, self.identity, start)
        self.processes.append(proxy)
        try:
            proxy.prove()
        except Misbehaves:
            self.stop(proxy)
            raise
        return proxy

    @contextlib.contextmanager
    def running(self, variant: str, scenario: Scenario, start: list[str] | None = None) -> Iterator[Proxy]:
        """A program by itself, stopped whatever happens."""
        proxy = self.proxy(variant, scenario, start=start)
        try:
            yield proxy
        finally:
            self.stop(proxy)

    def takes_part(self, variant: str) -> str:
        """Why a program is not measured here; empty when it is."""
        peer = peer_of(variant, self.peers)
        if peer.ours:
            return ""
        if self.settings.training or (self.settings.quick and not peer.quick):
            return "not in the quick run"
        if self.settings.peers is not None and peer.name not in self.settings.peers:
            return "not asked for"
        return "" if peer.find(self.settings.programs) else "not installed"

    def start_all(self, scenario: Scenario, missing: dict[str, str]) -> dict[str, Proxy]:
        """The programs of a scenario that can be measured here; why the others cannot goes to `missing`."""
        found = {}
        for variant in scenario.without:
            reason = self.takes_part(variant)
            if not reason:
                try:
                    found[variant] = self.proxy(variant, scenario)
                except (Refused, Misbehaves) as problem:
                    reason = str(problem)
                    note(f"{scenario.name}: {variant} is left out: {reason.splitlines()[0]}")
            if reason:
                missing[variant] = reason
        return found

    def load(self, scenario: Scenario, **more: int) -> Load:
        # The origin goes where the generator goes.
        os.sched_setaffinity(self.origin.pid, (LOAD_CORE & ALL_CORES) if scenario.pinned else ALL_CORES)
        return Load(scenario, self.identity, self.directory, **more)

    def measure(self, proxy: Proxy, load: Load, seconds: int, generator: str = "") -> Measured:
        """One measurement; one that was disturbed is repeated once."""
        name = f"{proxy.scenario.name}: {proxy.variant}"
        for attempt in (1, 2):
            before = proxy.cpu()
            counted = load.oha(proxy.port, seconds) if generator == "oha" else load.run(proxy.port, seconds)
            after = proxy.cpu()
            proxy.forget_logs()
            if counted["failed"] or not counted["requests"]:
                raise Misbehaves(f"{counted['failed']} of {counted['requests']} requests failed\n{proxy.said()}")
            if not counted["late"] or self.settings.training:
                break
            note(f"{name}: {counted['late']} answers took over two seconds")
            self.disturbed.append({"scenario": proxy.scenario.name, "program": proxy.variant, "attempt": attempt, **counted})
        user, system = after[0] - before[0], after[1] - before[1]
        return {
            **counted, "cpu_us": (user + system) / counted["requests"], "user_us": user / counted["requests"],
            "system_us": system / counted["requests"], "core_busy": (user + system) / 1e6 / counted["seconds"] / proxy.scenario.workers,
            "rss_kib": proxy.rss(),
        }

    def rounds(
        self, scenario: Scenario, proxies: dict[str, tuple[Proxy, Load]], missing: dict[str, str], count: int | None = None
    ) -> dict[str, list[Measured]]:
        """A warm-up, then all in turn, so that what disturbs the machine disturbs all of them."""
        found: dict[str, list[Measured]] = {name: [] for name in proxies}
        for number in range((count or self.settings.rounds) + 1):
            for name in list(found):
                proxy, load = proxies[name]
                try:
                    measured = self.measure(proxy, load, self.settings.seconds if number else self.settings.warm_up)
                except (Misbehaves, RuntimeError) as problem:
                    note(f"{scenario.name}: {name} is left out: {problem}")
                    missing[name] = str(problem)
                    del found[name]
                    continue
                if number:
                    found[name].append(measured)
                    note(f"{scenario.name}: round {number}: {name}: {measured['cpu_us']:.2f} µs")
        return found


def measure_load(bench: Bench, scenario: Scenario) -> dict:
    """CPU per request of every program, in interleaved rounds; once more with oha, where it can send the same."""
    missing: dict[str, str] = {}
    proxies = bench.start_all(scenario, missing)
    load = bench.load(scenario)
    found = bench.rounds(scenario, {name: (proxy, load) for name, proxy in proxies.items()}, missing)
    result: dict = {"generator": load.generator(), "programs": found, "missing": missing}
    if scenario.request.tls:
        result["resumes"] = {name: proxies[name].resumes() for name in found}
    if load.fits_oha() and not bench.settings.quick and not bench.settings.training:
        result["oha"] = once_more(bench, {name: proxies[name] for name in found}, load)
    for proxy in proxies.values():
        bench.stop(proxy)
    return result


def once_more(bench: Bench, proxies: dict[str, Proxy], load: Load) -> dict[str, Measured]:
    """By oha, one measurement each."""
    found = {}
    for name, proxy in proxies.items():
        try:
            found[name] = bench.measure(proxy, load, bench.settings.seconds, "oha")
        except (Misbehaves, RuntimeError) as problem:
            note(f"{proxy.scenario.name}: {name}: oha: {problem}")
    return found


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
