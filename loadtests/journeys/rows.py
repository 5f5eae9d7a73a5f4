"""Rows of Locust's table beside its requests: TTFT, TPOT, ITL, E2E and GOODPUT by journey.

They are written to the entries themselves rather than fired as requests, so that the line
`Aggregated` goes on counting requests; page, CSV, HTML and workers' reports take them all the same.
"""

from __future__ import annotations

from typing import Any

from loadtests.timing import Slo, Timing

COMPLETED, GOODPUT = "E2E", "GOODPUT"


def record(stats: Any, name: str, timing: Timing, slo: Slo) -> None:
    """Notes a completed answer. `GOODPUT` has those that kept every SLO: its rate is goodput."""
    note(stats, COMPLETED, name, timing.e2e)
    if timing.ttft is not None:
        note(stats, "TTFT", name, timing.ttft)
    if timing.tpot is not None:
        note(stats, "TPOT", name, timing.tpot)
    for gap in timing.itl:
        note(stats, "ITL", name, gap)
    if slo.is_met_by(timing):
        note(stats, GOODPUT, name, timing.e2e)


def note(stats: Any, kind: str, name: str, milliseconds: float) -> None:
    stats.get(name, kind).log(milliseconds, 0)


def summary(stats: Any, slo: Slo) -> str:
    """Goodput of all journeys together, in words."""
    completed, good = (_total(stats, kind) for kind in (COMPLETED, GOODPUT))
    seconds = max((stats.last_request_timestamp or 0.0) - stats.start_time, 1e-9)
    share = good / completed if completed else 0.0
    return (
        f"goodput under {slo}: {good / seconds:.2f} answers/s, "
        f"{good} of {completed} completed answers ({share:.1%})"
    )


def _total(stats: Any, kind: str) -> int:
    return sum(
        int(row.num_requests) for (_, method), row in stats.entries.items() if method == kind
    )
