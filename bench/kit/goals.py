"""Goals: what a figure of the gateway must come to, and whether it did. Everything is read from a record."""

import dataclasses
import statistics

from .peer import label
from .scenario import Goal

WORDS = {
    "cpu_us": "CPU per request", "per_second": "requests/s", "kib_per_connection": "KiB per idle connection",
    "failed": "failed requests", "p99_ratio": "p99 with reloads, to p99 without", "cpu_ms": "ms of CPU per reload",
}
OURS = "tollgate"


@dataclasses.dataclass(frozen=True)
class Outcome:
    scenario: str
    goal: Goal
    value: float | None  # None: not measured, or not beside what it is compared with

    @property
    def subject(self) -> str:
        against = f", to {label(self.goal.against)}" if self.goal.against else ""
        return f"{WORDS[self.goal.figure]}{against}"

    def word(self, limit: float | None) -> str:
        if limit is None:
            return ""
        sign = "≥" if self.goal.at_least else "≤"
        judged = "" if self.value is None else " met" if self.goal.met(self.value, limit) else " missed"
        return f"{sign} {limit:g}{judged}"


def outcomes(record: dict) -> list[Outcome]:
    return [
        Outcome(name, goal, value_of(one["result"], goal))
        for name, one in record["scenarios"].items()
        for goal in (Goal(**given) for given in one["scenario"]["goals"])
    ]


def value_of(result: dict, goal: Goal) -> float | None:
    ours = result["programs"].get(OURS)
    if not ours:
        return None
    if goal.against:
        theirs = result["programs"].get(goal.against)
        return statistics.median(ratios(ours, theirs, goal.figure)) if theirs else None
    if isinstance(ours, list):
        return statistics.median(one[goal.figure] for one in ours)
    return ours[goal.figure]


def ratios(ours: list[dict], theirs: list[dict], figure: str = "cpu_us") -> list[float]:
    """Round by round: what disturbs a round disturbs both."""
    return [one[figure] / other[figure] for one, other in zip(ours, theirs)]
