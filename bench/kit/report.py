"""The report: a record as Markdown. Figures are medians over the rounds, with minimum and maximum."""

import statistics
from collections.abc import Callable

from . import goals
from .goals import OURS
from .peer import label

SLACK = 0.9  # a proxy's core that is less busy was waiting: the generator or other work set the pace
Rows = list[list[str]]


def report(record: dict, plots: list[str]) -> str:
    parts = [heading(record), goals_table(record)]
    for name, one in record["scenarios"].items():
        parts.append(section(name, one["scenario"], one["result"], record))
    parts += [disturbed(record), "\n".join(f"![]({file})" for file in plots)]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(record: dict) -> str:
    machine, settings = record["machine"], record["settings"]
    load = record["load_average"]
    known = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    title = f"# Run of {record['date'][:10]}, commit {record['commit']}"
    lines = [
        title,
        "",
        f"- Machine: {machine['cores']} cores of {machine['cpu']}, {machine['memory_mib'] / 1024:.0f} GiB, Linux {machine['kernel']};"
        f" {machine['rustc']}",
        f"- Versions: {known}",
        f"- Settings: {settings['rounds']} rounds of {settings['seconds']} s after {settings['warm_up']} s of warm-up; one worker each,"
        f" on core {record['cores']['proxy'][0]}, generator and origin on core {record['cores']['load'][0]}, unless a scenario says otherwise",
        f"- Load average before and after: {load['before'][0]:.2f}, {load.get('after', load['before'])[0]:.2f}",
        *(f"- {name} leaves out everywhere: {what}" for name, what in record["leave_out"].items()),
        "",
        "CPU is user and system time of the program per request. Medians of the rounds; the ratio is the gateway's figure to the"
        " program's, taken within a round. Differences under 7 % mean nothing.",
    ]
    return "\n".join(lines)


def goals_table(record: dict) -> str:
    rows = [
        [f"`{one.scenario}`", one.subject, f"{one.value:.3g}" if one.value is not None else "not measured",
         one.word(one.goal.must), one.word(one.goal.aim), one.goal.note]
        for one in goals.outcomes(record)
    ]
    return "## Goals\n\n" + table(["scenario", "figure", "value", "must", "aim", ""], rows) if rows else ""


def section(name: str, scenario: dict, result: dict, record: dict) -> str:
    head = f"## {scenario['title']} (`{name}`)\n\n{scenario['does']}"
    body = BODIES[scenario["kind"]](scenario, result)
    return "\n\n".join(part for part in (head, body, absent(scenario, result)) if part)


def load_body(scenario: dict, result: dict) -> str:
    found = result["programs"]
    rows, slack = [], []
    for name in sorted(found, key=lambda name: median(found[name], "cpu_us")):
        rounds = found[name]
        busy = median(rounds, "core_busy")
        if busy < SLACK:
            slack.append(f"{label(name)} ({busy:.2f})")
        rows.append([
            label(name), span(rounds, "cpu_us"), f"{median(rounds, 'user_us'):.1f} + {median(rounds, 'system_us'):.1f}",
            ratio(found, name), f"{median(rounds, 'per_second'):,.0f}".replace(",", " "),
            *(ms(rounds, key) for key in ("p50_us", "p99_us", "p999_us")),
            f"{median(rounds, 'rss_kib') / 1024:.0f}", left_out(scenario, name),
        ])
    head = ["", "CPU µs per request", "user + system", "ratio", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "RSS MiB", "leaves out"]
    parts = [f"{asked(scenario)}, {result['generator']}.", table(head, rows)]
    if result.get("oha"):
        parts.append("The same load by oha, one measurement each:")
        others = [
            [label(name), f"{one['cpu_us']:.1f}", f"{one['per_second']:.0f}", *(f"{one[key] / 1e3:.2f}" for key in ("p50_us", "p99_us", "p999_us"))]
            for name, one in sorted(result["oha"].items(), key=lambda pair: pair[1]["cpu_us"])
        ]
        parts.append(table(["", "CPU µs per request", "requests/s", "p50 ms", "p99 ms", "p99.9 ms"], others))
    if slack:
        parts.append(f"The core was not busy, the generator or other work set the pace: {', '.join(slack)}. Their requests/s and latencies say little.")
    return "\n\n".join(parts)


def left_out(scenario: dict, name: str) -> str:
    """What the scenario says."""
    return scenario["without"][name]


def asked(scenario: dict) -> str:
    request = scenario["request"]
    words = [f"{request['method']} `{request['path']}`", f"{scenario['connections']} connections"]
    words += [f"a body of {request['body'] // 1024} KiB"] if request["body"] else []
    words += [f"a token signed with {request['token']}"] if request["token"] else []
    words += ["TLS"] if request["tls"] else []
    words += ["HTTP/2"] if request["http2"] else []
    words += ["a new connection for each request"] if request["close"] else []
    words += [f"{scenario['workers']} workers"] if scenario["workers"] > 1 else []
    words += [] if scenario["pinned"] else ["nothing pinned"]
    return ", ".join(words)


def idle_body(scenario: dict, result: dict) -> str:
    rows = [
        [label(name), f"{one['kib_per_connection']:.1f}", f"{one['rss_before_kib'] / 1024:.0f}", f"{one['rss_after_kib'] / 1024:.0f}",
         str(one["connections"]), scenario["without"][name]]
        for name, one in sorted(result["programs"].items(), key=lambda pair: pair[1]["kib_per_connection"])
    ]
    return table(["", "KiB per connection", "RSS MiB before", "RSS MiB with them", "connections", "leaves out"], rows)


def reload_body(scenario: dict, result: dict) -> str:
    rows = [
        [label(name), str(one["reloads"]), f"{one['failed']} of {one['requests']}", f"{statistics.median(one['in_force_ms']):.0f}",
         f"{one['p99_us_without'] / 1e3:.2f}", f"{one['p99_us'] / 1e3:.2f}", f"{one['p99_ratio']:.2f}", scenario["without"][name]]
        for name, one in result["programs"].items()
    ]
    head = ["", "reloads", "failed requests", "ms until in force", "p99 ms without", "p99 ms with", "ratio", "leaves out"]
    return f"{asked(scenario)}, wrk.\n\n" + table(head, rows)


def reload_cost_body(scenario: dict, result: dict) -> str:
    rows = [
        [label(name), f"{median(found, 'cpu_ms'):.0f} ({min(one['cpu_ms'] for one in found):.0f}–{max(one['cpu_ms'] for one in found):.0f})",
         f"{median(found, 'in_force_ms'):.0f}"]
        for name, found in result["programs"].items()
    ]
    return table(["", "CPU ms per reload", "ms until in force"], rows)


def sweep_body(scenario: dict, result: dict) -> str:
    rows = [
        [value, span(found, "cpu_us"), f"{median(found, 'per_second'):.0f}", ms(found, "p99_us"), f"{median(found, 'rss_kib') / 1024:.0f}"]
        for value, found in result["values"].items()
    ]
    return table([result["over"], "CPU µs per request", "requests/s", "p99 ms", "RSS MiB"], rows)


def offered_body(scenario: dict, result: dict) -> str:
    if "skipped" in result:
        return f"Left out: {result['skipped']}."
    rows = [
        [label(name), str(one["offered"]), f"{one['per_second']:.0f}", *(f"{one[key] / 1e3:.2f}" for key in ("p50_us", "p99_us", "p999_us")),
         f"{one['core_busy']:.2f}"]
        for name, steps in result["programs"].items() for one in steps
    ]
    text = table(["", "offered/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "core busy"], rows)
    slack = [label(name) for name, steps in result["programs"].items() if steps and steps[-1]["core_busy"] < SLACK]
    return text + (f"\n\nThe generator gave in before: {', '.join(slack)}." if slack else "")


BODIES: dict[str, Callable[[dict, dict], str]] = {
    "load": load_body, "idle": idle_body, "reload": reload_body, "reload-cost": reload_cost_body, "sweep": sweep_body,
    "offered": offered_body,
}


def absent(scenario: dict, result: dict) -> str:
    """Who is not shown, and why. What was not asked for goes without saying."""
    quiet = ("not in the quick run", "not asked for")
    reasons = {**scenario["absent"], **{name: why for name, why in result["missing"].items() if why not in quiet}}
    lines = [f"- {label(name)} is not shown: {brief(why)}" for name, why in reasons.items()]
    return "\n".join(lines)


def brief(why: str) -> str:
    """The first lines of a program's complaint."""
    lines = [line.strip() for line in why.splitlines() if line.strip() and "[NOTICE]" not in line]
    return "; ".join(lines[:2])[:300].rstrip(".") + "."


def disturbed(record: dict) -> str:
    lines = [f"- {one['scenario']}, {label(one['program'])}: {one['late']} answers took over two seconds" for one in record["disturbed"]]
    return "## Disturbed measurements, repeated\n\n" + "\n".join(lines) if lines else ""


def ratio(found: dict, name: str) -> str:
    if name == OURS or OURS not in found:
        return ""
    return f"{statistics.median(goals.ratios(found[OURS], found[name])):.2f}"


def median(rounds: list[dict], key: str) -> float:
    return statistics.median(one[key] for one in rounds)


def span(rounds: list[dict], key: str) -> str:
    values = [one[key] for one in rounds]
    return f"**{statistics.median(values):.1f}** ({min(values):.1f}–{max(values):.1f})"


def ms(rounds: list[dict], key: str) -> str:
    """A dash where the generator tells no times."""
    return f"{median(rounds, key) / 1e3:.2f}" if all(key in one for one in rounds) else "–"


def table(head: list[str], rows: Rows) -> str:
    if not rows:
        return "Nothing was measured."
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])
