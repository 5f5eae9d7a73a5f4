"""One load in numbers: for people as a few lines, for programs as JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from loadtests.load import Load
from loadtests.statistics import percentile
from loadtests.timing import Slo

BUSY_SHARE = 0.5  # of a core; beyond it a client's times begin to be its own


@dataclass(frozen=True, slots=True)
class Spread:
    """Of many values, in milliseconds; NaN (null in JSON) of none."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        mean = fmean(values) if values else float("nan")
        return cls(mean, *(percentile(values, percent) for percent in (50, 90, 99)))

    def __str__(self) -> str:
        return "".join(f"{ms:10.2f}" for ms in (self.p50, self.p90, self.p99, self.mean))


@dataclass(frozen=True, slots=True)
class Summary:
    """Rates are per second; see `timing.py` for the four times."""

    requests: int
    offered: float
    completed: int
    throughput: float  # completed answers
    goodput: float  # of them those that kept the SLO
    slo: str
    tokens: int
    tokens_per_s: float
    ttft_ms: Spread
    tpot_ms: Spread
    itl_ms: Spread
    e2e_ms: Spread
    refused: int
    refused_ms: Spread  # from when it was due to the end of the refusal
    errors: Mapping[str, int]
    client_share: float  # of one core
    client_us_per_token: float
    late_ms: Spread  # by the client's own fault

    @classmethod
    def of(cls, load: Load, slo: Slo) -> Summary:
        timings = load.timings()
        return cls(
            requests=len(load.answers),
            offered=load.offered,
            completed=len(timings),
            throughput=len(timings) / load.wall_s,
            goodput=load.goodput(slo),
            slo=str(slo),
            tokens=load.tokens,
            tokens_per_s=load.tokens / load.wall_s,
            ttft_ms=Spread.of([one.ttft for one in timings if one.ttft is not None]),
            tpot_ms=Spread.of([one.tpot for one in timings if one.tpot is not None]),
            itl_ms=Spread.of(list(chain.from_iterable(one.itl for one in timings))),
            e2e_ms=Spread.of([one.e2e for one in timings]),
            refused=len(load.refused),
            refused_ms=Spread.of([(one.ended - one.began) * 1e3 for one in load.refused]),
            errors=Counter(load.errors),
            client_share=load.client_share,
            client_us_per_token=load.client_cpu_s / load.tokens * 1e6 if load.tokens else 0.0,
            late_ms=Spread.of([answer.late * 1e3 for answer in load.answers]),
        )

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.requests} requests, {self.offered:.2f}/s offered: {self.completed} completed "
            f"({self.throughput:.2f}/s, {self.tokens_per_s:.0f} tokens/s), {self.refused} refused, "
            f"{sum(self.errors.values())} failed"
        )
        yield f"goodput {self.goodput:.2f}/s under {self.slo}"
        yield f"{'ms':<8}{'p50':>10}{'p90':>10}{'p99':>10}{'mean':>10}"
        for name, spread in (
            ("TTFT", self.ttft_ms),
            ("TPOT", self.tpot_ms),
            ("ITL", self.itl_ms),
            ("E2E", self.e2e_ms),
            ("refusal", self.refused_ms),
        ):
            if not math.isnan(spread.mean):
                yield f"{name:<8}{spread}"
        yield (
            f"client: {self.client_share:.0%} of a core, {self.client_us_per_token:.0f} CPU-µs per "
            f"token; sent late by {self.late_ms.p50:.2f} ms p50, {self.late_ms.p99:.2f} ms p99"
        )
        if self.client_share > BUSY_SHARE:
            yield "the client is short of CPU: halve the rate, or send from two processes"
        for error, count in self.errors.items():
            yield f"error, {count} times: {error}"
