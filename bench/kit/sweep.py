"""Series for plots: cost against routes, keys or connections; latency against offered load."""

from .measure import Bench
from .peer import tool
from .process import note
from .scenario import Scenario

STEP, QUICK_STEP = 1.25, 2  # from one offered load to the next
SATURATED = 0.95  # share of the offered load that is still answered
QUICK_SECONDS, SECONDS = 1, 3
FILLED_PER_SECOND = 20_000  # keys are all seen once before the rounds


def measure_sweep(bench: Bench, scenario: Scenario) -> dict:
    """One program, started once for each value; the rounds go over the values."""
    missing: dict[str, str] = {}
    proxies = {}
    for value in scenario.values:
        proxy = bench.proxy("tollgate", scenario, repeat=value if scenario.over == "routes" else 0)
        keys = value if scenario.over == "keys" else 1
        connections = value if scenario.over == "connections" else 0
        load = bench.load(scenario, keys=keys, connections=connections)
        if keys > 1 and not bench.settings.quick:
            load.run(proxy.port, keys // FILLED_PER_SECOND + 1)
        proxies[str(value)] = (proxy, load)
    found = bench.rounds(scenario, proxies, missing, 1 if bench.settings.quick else None)
    for proxy, _ in proxies.values():
        bench.stop(proxy)
    return {"over": scenario.over, "values": found, "missing": missing}


def measure_offered(bench: Bench, scenario: Scenario) -> dict:
    """More and more requests a second at a fixed rate, until a program no longer answers them all."""
    missing: dict[str, str] = {}
    result: dict = {"programs": {}, "missing": missing}
    if not tool("oha"):
        return {**result, "skipped": "oha is not installed"}
    load = bench.load(scenario)
    seconds, step = (QUICK_SECONDS, QUICK_STEP) if bench.settings.quick else (SECONDS, STEP)
    for variant, proxy in bench.start_all(scenario, missing).items():
        steps = []
        rate = scenario.values[0]
        while rate <= scenario.values[1]:
            before = sum(proxy.cpu())
            counted = load.oha(proxy.port, seconds, rate)
            busy = (sum(proxy.cpu()) - before) / 1e6 / counted["seconds"]
            steps.append({"offered": rate, **counted, "core_busy": busy})
            note(f"{scenario.name}: {variant}: {rate}/s offered, p99 {counted['p99_us'] / 1e3:.2f} ms")
            if counted["per_second"] < rate * SATURATED:
                break
            rate = round(rate * step)
        result["programs"][variant] = steps
        bench.stop(proxy)
    return result
