"""Medians, percentiles and bootstrap intervals over repeats."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The median of repeats. With few repeats the interval is at most their range: read it so."""
    chance = random.Random(seed)
    medians = sorted(median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Estimate(median(values), percentile(medians, 2.5), percentile(medians, 97.5))


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Ratio of neighbours in time, so that what slows both of them cancels out."""
    return estimate([a / b for a, b in zip(above, below, strict=True)])


def ratio_beyond(
    above: Sequence[float], below: Sequence[float], reference: Sequence[float], seed: int = 0
) -> Estimate:
    """Ratio of what two cost beyond a third, of medians over turns that ran side by side.

    Infinite where `below` costs no more than the reference.
    """
    more = [(a - r, b - r) for a, b, r in zip(above, below, reference, strict=True)]
    chance = random.Random(seed)
    ratios = sorted(_median_ratio(chance.choices(more, k=len(more))) for _ in range(_RESAMPLES))
    return Estimate(_median_ratio(more), percentile(ratios, 2.5), percentile(ratios, 97.5))


def _median_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    above, below = (median(values) for values in zip(*pairs, strict=True))
    return above / below if below > 0 else math.inf


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
