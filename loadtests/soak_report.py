"""What a soak showed: failures, replaced processes, slopes against their limits; as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from loadtests.plot import Axis, svg
from loadtests.report import Value, commit, hardware, row
from loadtests.slopes import Slope, slope
from loadtests.soak_samples import Sample, lasting, series

# What may grow in a day at most, each of whom it is measured.
LIMITS: Mapping[str, float] = {
    "memory": 1024.0,  # MiB
    "fds": 500.0,
    "threads": 500.0,
    "tasks": 500.0,
    "processes": 50.0,
}
TASKS_LEFT = 10  # more than before the load, and somebody forgot to end them
UNITS = {"memory": "MiB", "disk": "MiB"}
LASTING_ROLES = ("gateway", "engine core", "retriever", "ingest", "fine-tuning", "HAProxy")
_METHOD = """\
Written by `python -m loadtests.soak`; do not edit. Every journey of [load \
testing](../load-testing.md) at once against one Engram with the demo model: questions in all \
modes, conversations, documents uploaded, searched and deleted, three times as many adapters as \
the engine has slots, and one training after another whose adapter is deleted again. Memory is \
what is resident. Slopes are least squares over the means of ten equal parts of the time after the \
warm-up, with a 95 % interval. A leak is a slope whose whole interval is above the limit; where \
the interval reaches above it, a leak of that size is not excluded. Only processes that lived all \
the time count for slopes; trainings and readers of documents come and go."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What Locust counted: requests by type and name, failures in words, its exit code."""

    counts: Mapping[tuple[str, str], int]
    failures: Sequence[str]
    code: int | None

    @property
    def requests(self) -> int:
        return self.counts["", "Aggregated"]


@dataclass(frozen=True)
class Soak:
    """`kept` are the samples after the warm-up; the first and last of all are of an idle server."""

    samples: Sequence[Sample]
    kept: Sequence[Sample]
    outcome: Outcome
    users: int
    command: str

    @cached_property
    def slopes(self) -> dict[tuple[str, str], Slope]:
        seconds = [one.at for one in self.kept]
        return {of: slope(seconds, values[1:-1]) for of, values in self._series.items()}

    @cached_property
    def idle(self) -> dict[tuple[str, str], tuple[float, float]]:
        """What was held before the load and after it."""
        return {of: (values[0], values[-1]) for of, values in self._series.items()}

    @cached_property
    def _series(self) -> dict[tuple[str, str], list[float]]:
        return series([self.samples[0], *self.kept, self.samples[-1]])

    @cached_property
    def problems(self) -> list[str]:
        """Why this soak is not passed; nothing if it is."""
        found = [f"failed: {failure}" for failure in self.outcome.failures]
        if self.outcome.code and not found:
            found.append(f"Locust ended with {self.outcome.code}")
        return [*found, *self._replaced(), *self._left(), *self._leaks()]

    def _replaced(self) -> Iterator[str]:
        stay = lasting(self.kept)
        for one in {id: held.role for s in self.kept for id, held in s.processes.items()}.items():
            if one[0] not in stay and one[1] in LASTING_ROLES:
                yield f"a process was replaced: {one[1]} {one[0][0]}"

    def _left(self) -> Iterator[str]:
        for (measure, name), (before, after) in self.idle.items():
            if measure == "tasks" and after - before > TASKS_LEFT:
                yield f"left over: {after - before:.0f} tasks of {name} after the load"

    def _leaks(self) -> Iterator[str]:
        for (measure, name), found in self.slopes.items():
            limit = LIMITS.get(measure)
            if limit is not None and found.low * 24 > limit:
                daily = found.per_hour * 24
                yield f"leak: {measure} of {name} grows by {daily:.0f} a day (> {limit:g})"


def values(soak: Soak) -> list[Value]:
    counted = [
        Value(name, number, number, number, "count")
        for name, number in (
            ("soak.requests", float(soak.outcome.requests)),
            ("soak.failures", float(len(soak.outcome.failures))),
        )
    ]
    grown = [
        Value(f"soak.{measure}.slope", *_rounded(found), f"{UNITS.get(measure, 'count')}/h")
        for (measure, name), found in soak.slopes.items()
        if name == "all"
    ]
    return counted + grown


def write(soak: Soak, page: Path) -> None:
    """The page, and its plot beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    plot = page.with_suffix(".svg")
    plot.write_text(_plot(soak))
    page.write_text("\n".join(_page(soak, plot.name)) + "\n")


def _page(soak: Soak, plot: str) -> Iterator[str]:
    minutes = (soak.samples[-1].at - soak.samples[0].at) / 60
    yield from ("# Soak: does it fail, does it leak?", "", _METHOD, "")
    yield f"- hardware: {hardware()}"
    yield f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}"
    yield f"- command: `{soak.command}`"
    yield f"- {soak.users} users for {minutes:.0f} minutes, {soak.outcome.requests} requests"
    yield f"- **{'passed' if not soak.problems else 'not passed'}**"
    yield from (f"  - {problem}" for problem in soak.problems)
    yield from ("", f"![Resident memory by process]({plot})", "")
    yield (
        "| what | of | idle before, after | line begins, ends | slope per hour "
        "| 95 % interval | limit per hour | |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for (measure, name), found in soak.slopes.items():
        yield _row(measure, name, found, soak.idle[measure, name])
    yield from ("", "| requests | count |", "|---|---|")
    for (kind, name), count in soak.outcome.counts.items():
        if kind not in ("", "TTFT", "TPOT", "ITL", "E2E", "GOODPUT"):
            yield f"| {kind} {name} | {count} |"


def _row(measure: str, name: str, found: Slope, idle: tuple[float, float]) -> str:
    unit, limit = UNITS.get(measure, ""), LIMITS.get(measure)
    cells = [
        f"{measure} {f'({unit})' if unit else ''}".strip(),
        name,
        f"{idle[0]:.0f}, {idle[1]:.0f}",
        f"{found.first:.1f}, {found.last:.1f}",
        f"{found.per_hour:+.2f}",
        f"{found.low:+.2f} – {found.high:+.2f}",
        "" if limit is None else f"{limit / 24:.1f}",
        "" if limit is None else _verdict(found, limit),
    ]
    return row(*cells)


def _verdict(found: Slope, limit: float) -> str:
    if found.low * 24 > limit:
        return "**leak**"
    return "below" if found.high * 24 <= limit else "not excluded"


def _plot(soak: Soak) -> str:
    minutes = [one.at / 60 for one in soak.samples]
    lines = {
        name: list(zip(minutes, values, strict=True))
        for (measure, name), values in series(soak.samples).items()
        if measure == "memory" and name in ("gateway", "engine core", "retriever", "Ray")
    }
    top = max((value for line in lines.values() for _, value in line), default=1.0)
    x, y = Axis("minutes", 0.0, max(minutes[-1], 1e-9)), Axis("MiB", 0.0, top * 1.1)
    return svg("Resident memory", lines, x, y)


def _rounded(found: Slope) -> tuple[float, float, float]:
    return round(found.per_hour, 3), round(found.low, 3), round(found.high, 3)
