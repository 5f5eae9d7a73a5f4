"""Turns the prompt benchmark's counts into its page and its list of values."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from loadtests.prompt_workload import Case
from loadtests.report import Value, commit, hardware, row, value_of
from loadtests.statistics import Estimate, percentile, ratio

BASELINE = "relevance"
_RESAMPLES = 2_000
_METHOD = """\
Written by `python -m loadtests.prompt_order`; do not edit. Real vLLM with the demo model, real \
searches over the demo's documents, whose files (questions) or passages (searches) are asked for \
by a Zipf law with exponent 1. Each order of the passages gets the same requests, one by one, and \
starts with an empty prefix cache of its own. Computed are the prompt's tokens without those that \
vLLM reports as cached: counts, which no load on the machine changes. Ratios are of the same \
requests, the median over the seeds with their range. vLLM's CPU backend takes blocks of 128 \
tokens unless told otherwise, which prompts as short as the demo's do not fill.

- `relevance`: best first.
- `popularity`: most popular first, ranks frozen for up to 256 prompts, moved only when a \
count has about doubled.
- `shared`: as an earlier prompt began, as far as possible; what Engram does \
([decision 23](../decisions/0023-passages-begin-as-earlier-prompts-did.md))."""


@dataclass(frozen=True, slots=True)
class Computed:
    """Prompt tokens computed under each order, one count per seed."""

    case: Case
    block_size: int
    requests: int
    prompt_tokens: int  # of one prompt, on average
    tokens: Mapping[str, Sequence[int]]

    def over_relevance(self, order: str) -> Estimate:
        found = ratio(self.tokens[order], self.tokens[BASELINE])
        ratios = [a / b for a, b in zip(self.tokens[order], self.tokens[BASELINE], strict=True)]
        return Estimate(found.value, min(ratios), max(ratios))

    def share(self, order: str) -> float:
        """Computed tokens among all of the prompts."""
        counts = self.tokens[order]
        return sum(counts) / len(counts) / (self.requests * self.prompt_tokens)


@dataclass(frozen=True, slots=True)
class Answered:
    """Whether each question got the right value, and a citation of the right file."""

    case: Case
    right: Mapping[str, Sequence[bool]]
    cited: Mapping[str, Sequence[bool]]


def difference(order: Sequence[bool], baseline: Sequence[bool], seed: int = 0) -> Estimate:
    """Share of the first less that of the second, paired, with a 95 % bootstrap interval."""
    chance = random.Random(seed)
    pairs = [int(a) - int(b) for a, b in zip(order, baseline, strict=True)]
    count = len(pairs)
    means = [sum(chance.choices(pairs, k=count)) / count for _ in range(_RESAMPLES)]
    return Estimate(sum(pairs) / count, percentile(means, 2.5), percentile(means, 97.5))


def changed(order: Sequence[bool], baseline: Sequence[bool]) -> tuple[int, int, float]:
    """How many turned right, how many turned wrong, and the exact p of McNemar's test."""
    better = sum(a and not b for a, b in zip(order, baseline, strict=True))
    worse = sum(b and not a for a, b in zip(order, baseline, strict=True))
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1)) / 2**count
    return better, worse, min(1.0, 2 * tail)


def markdown(computed: Sequence[Computed], answered: Sequence[Answered], command: str) -> str:
    lines = [
        "# Prompt order: prefill tokens that need not be computed",
        "",
        _METHOD,
        "",
        f"- hardware: {hardware()}",
        f"- commit: {commit()}, {datetime.now(UTC):%Y-%m-%d}",
        f"- command: `{command}`",
        "",
    ]
    for block_size in dict.fromkeys(one.block_size for one in computed):
        mine = [one for one in computed if one.block_size == block_size]
        lines += [f"## Blocks of {block_size} tokens", "", *_counts(mine), ""]
    if answered:
        lines += ["## Answers", "", *_answers(answered), ""]
    return "\n".join(lines)


def values(computed: Sequence[Computed], answered: Sequence[Answered]) -> list[Value]:
    return [*_ratios(computed), *_differences(answered)]


def _counts(computed: Sequence[Computed]) -> Iterator[str]:
    orders = list(computed[0].tokens)
    others = [order for order in orders if order != BASELINE]
    yield row(
        "requests",
        "passages",
        "tokens of a prompt",
        *(f"computed, {order}" for order in orders),
        *(f"{order} ÷ {BASELINE}" for order in others),
    )
    yield row(*["---"] * (3 + len(orders) + len(others)))
    for one in computed:
        yield row(
            one.case.words,
            f"{one.case.limit} of {one.case.chunk_tokens} words at most",
            one.prompt_tokens,
            *(f"{one.share(order):.0%}" for order in orders),
            *(_interval(one.over_relevance(order)) for order in others),
        )


def _answers(answered: Sequence[Answered]) -> Iterator[str]:
    yield (
        "Every question about a fact, asked once under each order after it has ordered a workload; "
        f"temperature 0. Differences to `{BASELINE}` in points, paired, with a 95 % bootstrap "
        "interval; p is McNemar's, exact. Two short passages are seldom reordered, so this says "
        "little of more and longer ones."
    )
    yield ""
    yield row(
        *("requests", "n", "order", "right value", "difference"),
        *("turned right / wrong", "p", "right file cited"),
    )
    yield row(*["---"] * 8)
    for one in answered:
        for order, right in one.right.items():
            yield row(*_answers_row(one, order, right))


def _answers_row(one: Answered, order: str, right: Sequence[bool]) -> Iterator[object]:
    yield from (one.case.words, len(right), order, f"{_mean(right):.1%}")
    if order == BASELINE:
        yield from ("", "", "")
    else:
        better, worse, p = changed(right, one.right[BASELINE])
        points = difference(right, one.right[BASELINE])
        yield f"{100 * points.value:+.1f} ({100 * points.low:+.1f} – {100 * points.high:+.1f})"
        yield f"{better} / {worse}"
        yield f"{p:.2f}"
    yield f"{_mean(one.cited[order]):.1%}"


def _ratios(computed: Sequence[Computed]) -> Iterator[Value]:
    for one in computed:
        for order in one.tokens:
            if order != BASELINE:
                name = f"prompt_order.{one.case.key}.blocks_{one.block_size}.{order}_over_relevance"
                yield value_of(name, one.over_relevance(order), "ratio")


def _differences(answered: Sequence[Answered]) -> Iterator[Value]:
    for one in answered:
        for order, right in one.right.items():
            if order != BASELINE:
                name = f"prompt_order.{one.case.key}.{order}_right_minus_relevance"
                yield value_of(name, difference(right, one.right[BASELINE]), "share")


def _interval(found: Estimate) -> str:
    return f"{found.value:.2f} ({found.low:.2f} – {found.high:.2f})"


def _mean(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)
