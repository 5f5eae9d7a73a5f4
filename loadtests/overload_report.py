"""The page docs/benchmarks/overload.md, its chart, and the values of one run of `overload.py`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from loadtests.overload import MULTIPLES, Found, Options, Step
from loadtests.plot import Axis, svg
from loadtests.report import Value, commit, hardware, row, value_of
from loadtests.statistics import estimate, percentile, ratio

_METHOD = """\
Written by `python -m loadtests.overload`; do not edit. An open loop with Poisson arrivals: \
requests go out when they are due, whatever became of earlier ones, and latency counts from then. \
Goodput: answers per second that ended well within the SLO. The knee is the rate that brought the \
highest goodput, of one short turn at each; the knee's rate and its multiples then took turns. A \
turn begins with an empty server, and answers that were due in it count though they end after it, \
so a short turn beyond the knee shows more than the server sustains: compare with the closed \
loop's rate. Ratios are of neighbouring turns; the interval of so few is their range. Client and \
server share one machine: at high rates the client's CPU, shown beside each load, is taken from \
the server."""


def values(found: Found, options: Options) -> list[Value]:
    """Goodput beyond the knee over the knee's own, of neighbouring turns, and more."""
    slo, base = options.slo, found.at(1.0)
    good = [step.goodput(slo) for step in base]
    made = [value_of("overload.knee.goodput", estimate(good), "1/s")]
    for multiple in MULTIPLES[1:]:
        turns, name = found.at(multiple), f"overload.x{multiple:g}"
        kept = ratio([step.goodput(slo) for step in turns], good)
        made.append(value_of(f"{name}.goodput_over_knee", kept, "ratio"))
        refusals = estimate([_refusal_ms([step], 99) for step in turns])
        made.append(value_of(f"{name}.refusal_p99", refusals, "ms"))
        first = ratio([_ttft_ms([step], 50) for step in turns], [_ttft_ms([s], 50) for s in base])
        made.append(value_of(f"{name}.ttft_p50_over_knee", first, "ratio"))
        failed = float(sum(len(step.load.errors) for step in turns))
        made.append(Value(f"{name}.failed", failed, failed, failed, "requests"))
    return made


def write(found: Found, held: Sequence[Step], options: Options, load_average: float) -> None:
    """Replaces the page and the chart beside it."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    chart = options.output.with_suffix(".svg")
    chart.write_text(_chart(found, options))
    options.output.write_text("\n".join(_page(found, held, options, load_average, chart.name)))


def _page(
    found: Found, held: Sequence[Step], options: Options, load_average: float, chart: str
) -> Iterator[str]:
    slo = options.slo
    yield "# Overload: goodput beyond the knee"
    yield ""
    yield _METHOD
    yield ""
    yield f"- hardware: {hardware()}"
    yield f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}"
    yield f"- command: `{shlex.join(['python', '-m', 'loadtests.overload', *sys.argv[1:]])}`"
    yield f"- load average before the start: {load_average:.1f}; above 1, wait for a calm machine"
    what = f"{options.slots} slots, {options.max_tokens} tokens"
    yield f"- engine `{options.engine}`, {what}; SLO: {slo}"
    yield (
        f"- a closed loop with all slots taken got through {found.capacity:.1f} requests/s; "
        f"the knee is at {found.knee.rate:.1f} requests/s"
    )
    yield ""
    yield f"![Goodput by offered load]({chart})"
    yield ""
    yield from _table(found, options)
    yield ""
    yield "| value | | 95 % interval |"
    yield "|---|---|---|"
    for value in values(found, options):
        interval = f"{value.ci_low:.2f} – {value.ci_high:.2f}"
        yield f"| {value.name} | {value.value:.2f} {value.unit} | {interval} |"
    if held:
        yield ""
        yield from _held(held, options)
    yield ""


def _table(found: Found, options: Options) -> Iterator[str]:
    yield (
        "| load | offered/s | good/s | refused | failed | TTFT p50 / p99 ms | TPOT p99 ms "
        "| refusal p50 / p99 ms | server CPU ms/s | MiB | client CPU |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for step in found.ladder:
        yield _row(f"{step.rate / found.knee.rate:.2f} × knee, rising", [step], options)
    for multiple in MULTIPLES:
        yield _row(f"**{multiple:g} × knee**", found.at(multiple), options)


def _row(name: str, steps: Sequence[Step], options: Options) -> str:
    asked = sum(len(step.load.answers) for step in steps)
    refused = sum(len(step.load.refused) for step in steps)
    count = len(steps)
    cells = (
        name,
        f"{sum(step.load.offered for step in steps) / count:.1f}",
        f"{sum(step.goodput(options.slo) for step in steps) / count:.1f}",
        f"{refused / asked:.0%}",
        sum(len(step.load.errors) for step in steps),
        f"{_ttft_ms(steps, 50):.0f} / {_ttft_ms(steps, 99):.0f}",
        f"{_tpot_ms(steps, 99):.1f}",
        f"{_refusal_ms(steps, 50):.1f} / {_refusal_ms(steps, 99):.1f}" if refused else "",
        f"{sum(step.cpu_us_per_s for step in steps) / count / 1e3:.0f}",
        f"{max(step.memory_mib for step in steps):.0f}",
        f"{sum(step.load.client_share for step in steps) / count:.0%}",
    )
    return row(*cells)


def _held(held: Sequence[Step], options: Options) -> Iterator[str]:
    failed = sum(len(step.load.errors) for step in held)
    yield f"## {MULTIPLES[-1]:g} × the knee for {len(held)} minutes"
    yield ""
    yield (
        f"{sum(len(step.load.answers) for step in held)} requests, {failed} failed. Memory by "
        f"minute, MiB: {', '.join(f'{step.memory_mib:.0f}' for step in held)}. Good answers per "
        f"second by minute: {', '.join(f'{step.goodput(options.slo):.1f}' for step in held)}."
    )


def _chart(found: Found, options: Options) -> str:
    steps = sorted([*found.ladder, *found.turns], key=lambda step: step.rate)
    highest = max(step.load.offered for step in steps)
    good = [(step.load.offered, step.goodput(options.slo)) for step in steps]
    refused = [(step.load.offered, _refusals_per_s(step)) for step in steps]
    top = max(rate for _, rate in [*good, *refused])
    return svg(
        "Offered load and what becomes of it",
        {"good": good, "refused": refused},
        Axis("offered, requests/s", 0.0, highest),
        Axis("requests/s", 0.0, top),
    )


def _refusals_per_s(step: Step) -> float:
    return len(step.load.refused) / len(step.load.answers) * step.load.offered


def _ttft_ms(steps: Sequence[Step], percent: float) -> float:
    return percentile([a.ttft * 1e3 for s in steps for a in s.load.completed], percent)


def _tpot_ms(steps: Sequence[Step], percent: float) -> float:
    timings = [timing for step in steps for timing in step.load.timings()]
    return percentile([timing.tpot for timing in timings if timing.tpot is not None], percent)


def _refusal_ms(steps: Sequence[Step], percent: float) -> float:
    """From when it was due to the end of the refusal."""
    return percentile([(a.ended - a.began) * 1e3 for s in steps for a in s.load.refused], percent)
