"""Charts of the page, from the values that its tables hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loadtests.plot import Series, decades, svg
from loadtests.records import Record

_STREAMS = re.compile(r"gateway\.streams_(\d+)\.(\w+)\.cpu_per_token")
_BODIES = re.compile(r"gateway\.body_(\d+)kb\.(\w+)\.cpu_per_request")


def charts(records: Sequence[Record]) -> dict[str, str]:
    """SVG by file name; a chart of fewer than two points is none."""
    wanted = {
        "gateway_streams.svg": (_STREAMS, "Server CPU per streamed token", "streams", "µs"),
        "gateway_bodies.svg": (_BODIES, "Server CPU per request", "body, KB", "µs"),
    }
    drawn: dict[str, str] = {}
    for file, (pattern, title, x_words, y_words) in wanted.items():
        series = _series(records, pattern)
        xs = [x for points in series.values() for x, _ in points]
        ys = [y for points in series.values() for _, y in points]
        if len(set(xs)) > 1:
            drawn[file] = svg(title, series, decades(x_words, xs), decades(y_words, ys))
    return drawn


def _series(records: Sequence[Record], pattern: re.Pattern[str]) -> Series:
    found: dict[str, list[tuple[float, float]]] = {}
    for value in (value for one in records for value in one.values):
        if match := pattern.fullmatch(value.name):
            found.setdefault(match[2], []).append((float(match[1]), value.value))
    return {name: sorted(points) for name, points in found.items()}
