"""Reloads: under load, counting failed requests; and of many routes, counting CPU time."""

import concurrent.futures
import http.client
import signal
import subprocess
import time

from .measure import Bench
from .process import note, wait_for
from .proxy import Misbehaves, Proxy
from .scenario import Scenario
from .setup import Refused

PAUSE = 0.05  # between two reloads, beyond the time that one takes
QUICK_COUNT = 10
LONGEST = 40.0  # seconds: who is slow to reload does it less often


def measure_reload(bench: Bench, scenario: Scenario) -> dict:
    """Every program by itself: the same load without and with reloads."""
    count = min(scenario.count, QUICK_COUNT) if bench.settings.quick else scenario.count
    result: dict = {"programs": {}, "missing": {}}
    for variant in scenario.without:
        reason = bench.takes_part(variant)
        if not reason:
            try:
                with bench.running(variant, scenario, bench.peers[variant].reload_start or None) as proxy:
                    result["programs"][variant] = under_load(bench, scenario, proxy, count)
            except (Refused, Misbehaves) as problem:
                reason = str(problem)
                note(f"{scenario.name}: {variant} is left out: {reason}")
        if reason:
            result["missing"][variant] = reason
    return result


def under_load(bench: Bench, scenario: Scenario, proxy: Proxy, count: int) -> dict:
    load = bench.load(scenario)
    load.run(proxy.port, bench.settings.warm_up)
    began = time.monotonic()
    reload_once(proxy)
    each = time.monotonic() - began + PAUSE
    count = min(count, max(QUICK_COUNT, round(LONGEST / each)))
    seconds = round(count * each * 1.5) + 2
    without = load.run(proxy.port, seconds)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(load.run, proxy.port, seconds)
        took = []
        while len(took) < count and not running.done():
            began = time.monotonic()
            reload_once(proxy)
            took.append((time.monotonic() - began) * 1e3)
            time.sleep(PAUSE)
        counted = running.result()
    note(f"{scenario.name}: {proxy.variant}: {counted['failed'] + counted['late']} failed in {len(took)} reloads")
    return {
        "reloads": len(took), "failed": counted["failed"] + counted["late"], "requests": counted["requests"],
        "in_force_ms": took, "p99_us": counted["p99_us"], "p99_us_without": without["p99_us"],
        "p999_us": counted["p999_us"], "p999_us_without": without["p999_us"],
        "p99_ratio": counted["p99_us"] / without["p99_us"],
    }


def reload_once(proxy: Proxy) -> None:
    """The next generation of its files, and the wait until an answer shows it."""
    proxy.setup.generation += 1
    proxy.setup.write()
    signal_reload(proxy)
    wanted = f"generation-{proxy.setup.generation}".encode()

    def in_force() -> bool:
        try:
            return proxy.ask("/generation")[1].strip() == wanted
        except (OSError, http.client.HTTPException):
            return False

    if not wait_for(in_force, 15):
        raise Misbehaves(f"a reload did not come into force\n{proxy.said()}")


def signal_reload(proxy: Proxy) -> None:
    peer = proxy.setup.peer
    if peer.reload_signal:
        proxy.child.send_signal(signal.Signals[peer.reload_signal])
    if peer.reload_command:
        command = proxy.setup.command(peer.reload_command)
        done = subprocess.run(command, capture_output=True, text=True, cwd=proxy.directory)
        if done.returncode:
            raise Misbehaves(f"{command[0]}: {done.stderr}")


def measure_reload_cost(bench: Bench, scenario: Scenario) -> dict:
    """CPU time of reading all routes again, from the signal until 0.2 s after the new ones answer."""
    found = []
    with bench.running("tollgate", scenario) as proxy:
        for _ in range(3 if bench.settings.quick else scenario.count):
            time.sleep(0.5)
            idle, idle_began = sum(proxy.cpu()), time.monotonic()
            time.sleep(0.5)
            before, began = sum(proxy.cpu()), time.monotonic()
            idle_share = (before - idle) / 1e6 / (began - idle_began)
            reload_once(proxy)
            seen = time.monotonic() - began
            time.sleep(0.2)
            spent = (sum(proxy.cpu()) - before) / 1e3
            found.append({"cpu_ms": spent, "in_force_ms": seen * 1e3, "idle_share": idle_share})
            note(f"{scenario.name}: {spent:.0f} ms of CPU")
    return {"programs": {"tollgate": found}, "missing": {}}
