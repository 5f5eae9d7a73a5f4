"""Keeps every table on disk as soon as it is measured, and writes the page and values from them.

`results/gateway.json` has one record for each table, with the commit, command and load of its own
run: a run of a few sections replaces their records and leaves the others. The page, its charts and
`results/latest.json` are always written whole, from all records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from loadtests.report import Value

_METHOD = """\
Written by `make bench` and `make bench-full`; do not edit. Server CPU is the kernel's clock of \
every process an arm started (HAProxy, Ray's own processes, the engine). Arms take turns on one \
machine; ratios are of neighbouring turns, with a 95 % bootstrap interval over them, which of so \
few turns is about their range. Tokens are counted from `usage`; every request of a table \
generates the same number. Times depend on what else the machine does, so compare ratios and CPU.

Beyond 16 streams `engram` rests between a stream's chunks: tokens generated meanwhile go out \
together ([decision 17](../decisions/0017-many-streams-share-the-chunks-of-a-second.md)). The \
other arms write each token when it comes, unless they fall behind. So part of what Engram saves \
in CPU at such loads is paid for with text that moves less often: see the gap between chunks. \
`relay` runs Engram's engine without its rests."""


class Measured(Protocol):
    """A table, of whatever kind."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def errors(self) -> Sequence[str]: ...
    def ratios(self) -> list[str]: ...
    def text(self) -> list[str]: ...
    def values(self) -> list[Value]: ...


@dataclass(frozen=True, slots=True)
class Made:
    """How a table came about."""

    hardware: str
    commit: str
    date: str
    command: str
    load_average: float  # before the start
    selftest: str

    def lines(self) -> list[str]:
        return [
            f"- hardware: {self.hardware}",
            f"- commit: {self.commit}, {self.date}",
            f"- command: `{self.command}`",
            f"- load average before the start: {self.load_average:.1f}; above 1, wait for a calm "
            "machine",
            f"- {self.selftest}",
        ]


@dataclass(frozen=True, slots=True)
class Record:
    """One table as it is kept. Without text its page is written by its own section."""

    key: str
    title: str
    made: Made
    ratios: Sequence[str]
    text: Sequence[str]
    values: Sequence[Value]


def record(table: Measured, made: Made) -> Record:
    return Record(table.key, table.title, made, table.ratios(), table.text(), table.values())


def read(path: Path) -> list[Record]:
    return [_parsed(one) for one in orjson.loads(path.read_bytes())] if path.exists() else []


def merged(old: Iterable[Record], new: Iterable[Record], order: Sequence[str]) -> list[Record]:
    """New ones in place of old ones of the same key, in this order; keys not in it are dropped."""
    found = {one.key: one for one in [*old, *new]}
    return [found[key] for key in order if key in found]


def write(records: Sequence[Record], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = orjson.dumps([asdict(one) for one in records], option=orjson.OPT_INDENT_2)
    _replace(path, whole + b"\n")


def write_values(records: Sequence[Record], path: Path) -> None:
    """One value per line, so that diffs can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (value for one in records for value in one.values)
    lines = b",\n".join(orjson.dumps(asdict(value)) for value in values)
    _replace(path, b"[\n" + lines + b"\n]\n")


def page(records: Sequence[Record], charts: Sequence[str] = ()) -> str:
    """Ratios first, then each table with how it was made, said once for tables of one run."""
    return "\n".join(_page(records, charts)) + "\n"


def _page(records: Sequence[Record], charts: Sequence[str]) -> Iterator[str]:
    yield from ("# Gateway: what a streamed token costs", "", _METHOD, "")
    one_run = len({str(one.made) for one in records}) == 1
    if one_run:
        yield from (*records[0].made.lines(), "")
    yield from ("| compared | value | 95 % interval | goal |", "|---|---|---|---|")
    for one in records:
        yield from (f"| **{one.title}** | | | |", *one.ratios)
    yield ""
    for chart in charts:
        yield from (f"![{chart.removesuffix('.svg').replace('_', ' ')}]({chart})", "")
    for one in (one for one in records if one.text):
        yield from (f"## {one.title}", "")
        if not one_run:
            yield from (*one.made.lines(), "")
        yield from (*one.text, "")


def _parsed(found: dict[str, Any]) -> Record:
    values = [Value(**value) for value in found.pop("values")]
    return Record(made=Made(**found.pop("made")), values=values, **found)


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, whenever the run is stopped."""
    beside = path.with_suffix(".part")
    beside.write_bytes(data)
    beside.replace(path)
