"""Turns measurements into a table for people and a list of values for the next comparison."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import orjson
import psutil

from loadtests.measure import Measured, Turn, Work
from loadtests.statistics import Estimate, estimate, percentile, ratio
from serving.settings import ROOT

_METHOD = """\
Written by `make bench`; do not edit. Server CPU is the kernel's clock of every process an arm \
started (HAProxy, Ray's own processes, the engine). Arms take turns on one machine; ratios are of \
neighbouring turns, with a 95 % bootstrap interval over the repeats. Tokens are counted from \
`usage`; every request generates the same number. Times depend on what else the machine does, so \
compare ratios and CPU."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`above` divided by `below`, in words."""

    words: str
    above: str
    below: str
    of: Callable[[Turn], float]


@dataclass(frozen=True, slots=True)
class Section:
    """One table: what ran, how, and what is compared."""

    key: str
    title: str
    explanation: str
    work: Work
    repeats: int
    measured: Measured
    comparisons: Sequence[Comparison]


@dataclass(frozen=True, slots=True)
class Value:
    """One line of `results/latest.json`."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    unit: str


def markdown(sections: Sequence[Section], selftest: str, command: str, load_before: float) -> str:
    head = [
        "# Gateway: what a streamed token costs",
        "",
        _METHOD,
        "",
        f"- hardware: {hardware()}",
        f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}",
        f"- command: `{command}`",
        f"- load average before the start: {load_before:.1f}; above 1, wait for a calm machine",
        f"- {selftest}",
        "",
    ]
    return "\n".join([*head, *chain.from_iterable(map(_section, sections))])


def values(sections: Sequence[Section]) -> list[Value]:
    return [value for section in sections for value in _values(section)]


def write(sections: Sequence[Section], text: str, document: Path, results: Path) -> None:
    """Replaces both files; the list keeps one value per line, so that diffs can be read."""
    document.parent.mkdir(parents=True, exist_ok=True)
    document.write_text(text)
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = b",\n".join(orjson.dumps(asdict(value)) for value in values(sections))
    results.write_bytes(b"[\n" + lines + b"\n]\n")


def hardware() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{_cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _section(section: Section) -> Iterator[str]:
    work = section.work
    yield f"## {section.title}"
    yield ""
    yield (
        f"{section.explanation} {work.streams} concurrent streams, {work.requests} requests of "
        f"{work.max_tokens} tokens a turn, {section.repeats} turns each."
    )
    yield ""
    yield from _costs(section.measured)
    yield ""
    yield _idle(section.measured)
    yield ""
    yield from _comparisons(section)
    yield ""
    yield from _roles(section.measured.turns)
    yield ""


def _costs(measured: Measured) -> Iterator[str]:
    yield (
        "| arm | server CPU-µs per token | of it beyond idle | without the model's process "
        "| requests/s | TTFT p50 / p99 ms | inter-token p99 ms | client CPU-µs per token | errors |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, turns in measured.turns.items():
        yield _row(
            name,
            _interval(estimate([turn.cpu_us_per_token for turn in turns]), ".0f"),
            f"{estimate([turn.added_us_per_token for turn in turns]).value:.0f}",
            f"{estimate([turn.front_us_per_token for turn in turns]).value:.0f}",
            f"{estimate([turn.requests_per_s for turn in turns]).value:.1f}",
            f"{_ttft_ms(turns, 50):.0f} / {_ttft_ms(turns, 99):.0f}",
            f"{_gap_ms(turns, 99):.0f}",
            f"{_client_us(turns):.0f}",
            sum(len(turn.errors) for turn in turns),
        )


def _idle(measured: Measured) -> str:
    rates = (f"`{arm}` {rate:.0f} ms/s" for arm, rate in measured.idle_cpu_ms_per_s.items())
    return f"CPU while nobody asks, part of the costs above: {', '.join(rates)}."


def _comparisons(section: Section) -> Iterator[str]:
    yield "| ratio | value | 95 % interval |"
    yield "|---|---|---|"
    for compared in section.comparisons:
        result = _compare(section.measured, compared)
        yield _row(compared.words, f"{result.value:.2f}", f"{result.low:.2f} – {result.high:.2f}")


def _roles(turns: Mapping[str, Sequence[Turn]]) -> Iterator[str]:
    """Where the CPU goes, by process."""
    total: dict[str, float] = {}
    for turn in chain.from_iterable(turns.values()):
        for role in turn.cpu_s:
            total[role] = total.get(role, 0.0) + turn.cpu_s[role]
    roles = sorted(total, key=lambda role: -total[role])
    yield _row("CPU-µs per token by process", *roles)
    yield "|---" * (len(roles) + 1) + "|"
    for name, repeats in turns.items():
        costs = [estimate([turn.role_us_per_token(role) for turn in repeats]) for role in roles]
        yield _row(name, *(f"{cost.value:.0f}" if cost.value else "" for cost in costs))


def _values(section: Section) -> Iterator[Value]:
    for name, turns in section.measured.turns.items():
        prefix = f"gateway.{section.key}.{name.replace(' ', '_')}"
        cost = estimate([turn.cpu_us_per_token for turn in turns])
        yield _value(f"{prefix}.cpu_per_token", cost, "µs")
        yield _value(f"{prefix}.requests", estimate([t.requests_per_s for t in turns]), "1/s")
        for percent in (50, 99):
            per_turn = [_ttft_ms([turn], percent) for turn in turns]
            yield _value(f"{prefix}.ttft_p{percent}", estimate(per_turn), "ms")
        gaps = estimate([_gap_ms([turn], 99) for turn in turns])
        yield _value(f"{prefix}.inter_token_p99", gaps, "ms")
    for compared in section.comparisons:
        key = compared.words.split(":")[0].lower().replace(" ", "_").replace("÷", "over")
        yield _value(f"gateway.{section.key}.{key}", _compare(section.measured, compared), "ratio")


def _compare(measured: Measured, compared: Comparison) -> Estimate:
    above, below = measured.turns[compared.above], measured.turns[compared.below]
    return ratio(list(map(compared.of, above)), list(map(compared.of, below)))


def _ttft_ms(turns: Sequence[Turn], percent: float) -> float:
    seconds = [answer.ttft for turn in turns for answer in turn.load.answers if not answer.error]
    return percentile(seconds, percent) * 1e3


def _gap_ms(turns: Sequence[Turn], percent: float) -> float:
    gaps = [gap for turn in turns for answer in turn.load.answers for gap in answer.gaps]
    return percentile(gaps, percent) * 1e3


def _client_us(turns: Sequence[Turn]) -> float:
    return estimate([turn.load.client_cpu_s / turn.load.tokens * 1e6 for turn in turns]).value


def _value(name: str, found: Estimate, unit: str) -> Value:
    return Value(name, round(found.value, 4), round(found.low, 4), round(found.high, 4), unit)


def _interval(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}} – {found.high:{form}})"


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
