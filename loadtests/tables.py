"""What was measured under one load, as rows for people and as values for the next comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from statistics import median

from loadtests.measure import Measured, Turn, Work
from loadtests.report import Value, interval, row, value_of
from loadtests.statistics import Estimate, estimate, percentile, ratio, ratio_beyond


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a turn; `key` ends the names of its values."""

    key: str
    words: str
    unit: str
    of: Callable[[Turn], float]

    def estimate(self, turns: Sequence[Turn]) -> Estimate:
        return estimate([self.of(turn) for turn in turns])


def _percentile_ms(
    of: Callable[[Turn], Sequence[float]], percent: float
) -> Callable[[Turn], float]:
    return lambda turn: percentile(of(turn), percent) * 1e3


TOKENS_PER_S = Metric("tokens_per_s", "tokens/s", "1/s", attrgetter("tokens_per_s"))
CPU_PER_TOKEN = Metric(
    "cpu_per_token", "server CPU-µs per token", "µs", attrgetter("cpu_us_per_token")
)
FRONT_PER_TOKEN = Metric(
    "front_per_token",
    "CPU-µs per token without the model's process",
    "µs",
    attrgetter("front_us_per_token"),
)
ADDED_PER_TOKEN = Metric(
    "added_per_token", "CPU-µs per token beyond idle", "µs", attrgetter("added_us_per_token")
)
CPU_PER_REQUEST = Metric(
    "cpu_per_request", "server CPU-µs per request", "µs", attrgetter("cpu_us_per_request")
)
OWN_PER_REQUEST = Metric(
    "own_per_request",
    "CPU-µs per request without what it relays to",
    "µs",
    attrgetter("own_us_per_request"),
)
TTFT_P50 = Metric("ttft_p50", "TTFT p50 ms", "ms", _percentile_ms(attrgetter("ttfts"), 50))
TTFT_P99 = Metric("ttft_p99", "TTFT p99 ms", "ms", _percentile_ms(attrgetter("ttfts"), 99))
ITL_P99 = Metric(
    "itl_p99", "gap between chunks p99 ms", "ms", _percentile_ms(attrgetter("gaps"), 99)
)
METRICS = (
    TOKENS_PER_S,
    CPU_PER_TOKEN,
    FRONT_PER_TOKEN,
    ADDED_PER_TOKEN,
    CPU_PER_REQUEST,
    OWN_PER_REQUEST,
    TTFT_P50,
    TTFT_P99,
    ITL_P99,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`above` divided by `below`, turn by turn; of both only what is `beyond` a third, if named."""

    above: str
    below: str
    metric: Metric
    goal: str = ""  # in words
    beyond: str = ""

    @property
    def words(self) -> str:
        both = f", both beyond `{self.beyond}`" if self.beyond else ""
        return f"`{self.above}` ÷ `{self.below}`{both}: {self.metric.words}"

    @property
    def key(self) -> str:
        both = f"_beyond_{_slug(self.beyond)}" if self.beyond else ""
        return f"{_slug(self.above)}_over_{_slug(self.below)}{both}.{self.metric.key}"

    @property
    def cases(self) -> set[str]:
        return {self.above, self.below, self.beyond or self.below}

    def estimate(self, measured: Measured) -> Estimate:
        above, below = self._of(measured, self.above), self._of(measured, self.below)
        if self.beyond:
            return ratio_beyond(above, below, self._of(measured, self.beyond))
        return ratio(above, below)

    def _of(self, measured: Measured, case: str) -> list[float]:
        return list(map(self.metric.of, measured.turns[case]))


@dataclass(frozen=True, slots=True)
class Table:
    """Cases under one load, and what is compared."""

    key: str
    title: str
    explanation: str
    work: Work
    repeats: int
    measured: Measured
    comparisons: Sequence[Comparison]

    @property
    def errors(self) -> list[str]:
        return self.measured.errors

    def ratios(self) -> list[str]:
        """Rows of words, value, interval and goal."""
        found = [(one, one.estimate(self.measured)) for one in self._compared()]
        return [row(one.words, *_shown(one, value), one.goal) for one, value in found]

    def text(self) -> list[str]:
        return [
            f"{self.explanation} {self._load()}",
            "",
            *_costs(self.measured.turns),
            "",
            _idle(self.measured.idle_cpu_ms_per_s),
            "",
            *_roles(self.measured.turns),
        ]

    def values(self) -> list[Value]:
        costs = [
            value_of(f"gateway.{self.key}.{_slug(name)}.{metric.key}", found, metric.unit)
            for name, turns in self.measured.turns.items()
            for metric in METRICS
            if (found := metric.estimate(turns)).value == found.value  # NaN of what did not occur
        ]
        return costs + [
            value_of(f"gateway.{self.key}.{one.key}", found, "ratio")
            for one in self._compared()
            if (found := one.estimate(self.measured)).high < math.inf  # JSON has no infinity
        ]

    def _compared(self) -> list[Comparison]:
        ran = set(self.measured.turns)
        return [one for one in self.comparisons if one.cases <= ran]

    def _load(self) -> str:
        size = f"bodies of {self.work.body_bytes / 1024:.0f} KB, " if self.work.body_bytes else ""
        return (
            f"{self.work.streams} concurrent streams, {size}answers of {self.work.max_tokens} "
            f"tokens, {self.repeats} turns of about {self.work.seconds:g} s each."
        )


def _shown(compared: Comparison, found: Estimate) -> tuple[str, str]:
    """The value and its interval; beyond a reference there may be nothing to divide by."""
    if math.isinf(found.value):
        return f"`{compared.below}` costs no more than `{compared.beyond}`", ""
    return f"{found.value:.3g}", f"{found.low:.3g} – {found.high:.3g}"


def _costs(turns_of: Mapping[str, Sequence[Turn]]) -> Iterator[str]:
    yield row("arm", *(metric.words for metric in METRICS), "client CPU-µs per token", "errors")
    yield "|---" * (len(METRICS) + 3) + "|"
    for name, turns in turns_of.items():
        found = {metric: metric.estimate(turns) for metric in METRICS}
        yield row(
            f"`{name}`",
            *(
                interval(one, ".0f") if metric is CPU_PER_TOKEN else _rounded(one.value)
                for metric, one in found.items()
            ),
            _client(turns),
            sum(len(turn.errors) for turn in turns),
        )


def _client(turns: Sequence[Turn]) -> str:
    cost = median(turn.client_us_per_token for turn in turns)
    return f"{cost:.0f} ({median(turn.client_share for turn in turns):.0%} of a core)"


def _idle(rates: Mapping[str, float]) -> str:
    each = ", ".join(f"`{arm}` {rate:.0f} ms/s" for arm, rate in rates.items())
    return f"CPU while nobody asks, part of the costs above: {each}."


def _roles(turns_of: Mapping[str, Sequence[Turn]]) -> Iterator[str]:
    """Where the CPU goes, by process."""
    total: dict[str, float] = {}
    for turn in chain.from_iterable(turns_of.values()):
        for role, seconds in turn.cpu_s.items():
            total[role] = total.get(role, 0.0) + seconds
    roles = sorted(total, key=lambda role: -total[role])
    yield row("CPU-µs per token by process", *roles)
    yield "|---" * (len(roles) + 1) + "|"
    for name, turns in turns_of.items():
        costs = [median(turn.role_us_per_token(role) for turn in turns) for role in roles]
        yield row(f"`{name}`", *(f"{cost:.0f}" if cost else "" for cost in costs))


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _slug(name: str) -> str:
    return name.replace(" ", "_")
