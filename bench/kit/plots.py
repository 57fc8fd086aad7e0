"""Plots of a run, as SVG: CPU by program and scenario, latency against offered load, cost against number of things.

matplotlib is asked for only here; without it a run has no plots and says so. The same record gives the same bytes.
"""

import pathlib
import statistics

from .goals import OURS
from .peer import label
from .process import note

ACCENT, BASE, PALE, INK = "#c2410c", "#6b7280", "#b6bcc6", "#1f2937"
# One colour and dash each: lines stay apart for those who see no colours.
LINES = {
    "tollgate": (ACCENT, "-"), "bare": (INK, ":"), "nginx": ("#15803d", "-"), "haproxy": ("#1d4ed8", "-"),
    "envoy": ("#7e22ce", "--"), "caddy": ("#0e7490", "--"), "pingap": ("#a16207", "-."),
}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "tollgate", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.edgecolor": BASE, "xtick.color": BASE, "ytick.color": INK, "text.color": INK,
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelcolor": BASE,
}
COLUMNS = 3
THINGS = {"routes": "routes", "keys": "keys of a limit", "connections": "connections"}


def draw(record: dict, place: pathlib.Path) -> list[str]:
    """Writes what can be drawn; names of the files."""
    try:
        import matplotlib
    except ImportError:
        note("no plots: matplotlib is not installed (Debian: python3-matplotlib)")
        return []
    matplotlib.use("svg")
    from matplotlib import pyplot

    drawn = []
    with pyplot.rc_context(STYLE):
        for name, make in [("cpu", cpu), ("latency", latency), ("cost", cost)]:
            figure = make(pyplot, record)
            if figure is None:
                continue
            figure.savefig(place / f"{name}.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
            pyplot.close(figure)
            drawn.append(f"{name}.svg")
    return drawn


def of_kind(record: dict, kind: str) -> list[tuple[dict, dict]]:
    found = [(one["scenario"], one["result"]) for one in record["scenarios"].values()]
    return [(scenario, result) for scenario, result in found if scenario["kind"] == kind]


def cpu(pyplot, record: dict):
    """A panel for each scenario, a bar for each program, cheapest first; each panel has a scale of its own."""
    panels = [(scenario, result["programs"]) for scenario, result in of_kind(record, "load") if result["programs"]]
    if not panels:
        return None
    rows = [panels[at : at + COLUMNS] for at in range(0, len(panels), COLUMNS)]
    heights = [max(len(programs) for _, programs in row) + 1.2 for row in rows]
    columns = min(COLUMNS, len(panels))
    figure, grid = pyplot.subplots(
        len(rows), columns, figsize=(3.6 * columns, 0.24 * sum(heights) + 0.5), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for axes in grid.flat:
        axes.set_visible(False)
    for row, places, height in zip(rows, grid, heights):
        for (scenario, programs), axes in zip(row, places):
            axes.set_visible(True)
            bars(axes, scenario["title"], programs, height)
    figure.suptitle("CPU time per request, µs: median, and the range of the rounds", x=0.01, ha="left", color=BASE, fontsize=9)
    return figure


def bars(axes, title: str, programs: dict, height: float) -> None:
    found = {name: [one["cpu_us"] for one in rounds] for name, rounds in programs.items()}
    names = sorted(found, key=lambda name: statistics.median(found[name]))
    most = max(max(values) for values in found.values())
    for at, name in enumerate(names):
        values = found[name]
        middle = statistics.median(values)
        axes.barh(at, middle, height=0.62, color=ACCENT if name.startswith(OURS) else BASE if name == "bare" else PALE)
        axes.plot([min(values), max(values)], [at, at], color=INK, linewidth=0.8)
        axes.text(max(values) + most * 0.02, at, f"{middle:.1f}" if middle < 100 else f"{middle:.0f}", va="center", fontsize=8)
    axes.set_title(title)
    axes.set_yticks(range(len(names)), map(label, names))
    axes.set_ylim(height - 1.5, -0.6)
    axes.set_xlim(0, most * 1.18)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def latency(pyplot, record: dict):
    """Latency while more and more is offered, up to the load that is no longer answered."""
    found = [(scenario, result["programs"]) for scenario, result in of_kind(record, "offered") if result["programs"]]
    if not found:
        return None
    scenario, programs = found[0]
    figure, places = pyplot.subplots(1, 3, figsize=(11, 3.6), sharex=True, layout="constrained")
    for axes, (key, title) in zip(places, [("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")]):
        ends = []
        for name, steps in programs.items():
            colour, dash = LINES.get(name, (BASE, "-"))
            across, up = [one["offered"] / 1e3 for one in steps], [one[key] / 1e3 for one in steps]
            axes.plot(across, up, color=colour, linestyle=dash, linewidth=2 if name == OURS else 1.2, marker=".", markersize=4)
            ends.append((across[-1], up[-1], name, colour))
        axes.set_yscale("log", subs=[])
        axes.set_title(f"{title}, ms")
        axes.set_xlabel("offered load, thousand requests/s")
        axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5), numticks=20)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.margins(x=0.02)
        label_ends(axes, ends)
    figure.suptitle(f"{scenario['title']}; a line ends where the load is no longer answered", x=0.01, ha="left", color=BASE, fontsize=9)
    return figure


def label_ends(axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names beside the ends of lines, moved apart where they would cover each other."""
    low, high = axes.get_ylim()
    apart = (high / low) ** 0.055
    last = 0.0
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        last = max(y, last * apart)
        axes.annotate(label(name), (x, y), (axes.get_xlim()[1] * 1.02, last), color=colour, fontsize=8, va="center",
                      arrowprops={"arrowstyle": "-", "color": PALE, "linewidth": 0.5}, annotation_clip=False)


def short(value: int) -> str:
    """1, 100, 1k, 1M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if value >= size and value % size == 0:
            return f"{value // size}{letter}"
    return str(value)


def cost(pyplot, record: dict):
    """CPU per request of the gateway against how many there are of something."""
    found = [(scenario, result) for scenario, result in of_kind(record, "sweep") if any(result["values"].values())]
    if not found:
        return None
    figure, places = pyplot.subplots(1, len(found), figsize=(3.6 * len(found), 2.8), sharey=True, squeeze=False, layout="constrained")
    for axes, (scenario, result) in zip(places[0], found):
        points = {int(value): [one["cpu_us"] for one in rounds] for value, rounds in result["values"].items() if rounds}
        across, up = list(points), [statistics.median(values) for values in points.values()]
        axes.plot(across, up, color=ACCENT, marker="o", markersize=4)
        for x, values in points.items():
            axes.plot([x, x], [min(values), max(values)], color=INK, linewidth=0.8)
            axes.annotate(f"{statistics.median(values):.1f}", (x, max(values)), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        axes.set_xscale("log")
        axes.set_xticks(across, map(short, across))
        axes.minorticks_off()
        axes.margins(x=0.12)
        axes.set_title(THINGS[result["over"]])
        axes.set_xlabel(f"number of {THINGS[result['over']]}")
    places[0][0].set_ylim(bottom=0, top=max(axes.get_ylim()[1] for axes in places[0]) * 1.1)
    figure.suptitle("CPU time of the gateway per request, µs: median, and the range of the rounds", x=0.01, ha="left", color=BASE, fontsize=9)
    return figure
