"""When requests are due: seconds from the start, ascending. Traces are in `trace.py`."""

from __future__ import annotations

import random


def constant(rate: float, seconds: float) -> list[float]:
    """`rate` a second in even steps, the first at 0."""
    return [n / rate for n in range(round(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Arrivals of many who do not know of each other, `rate` a second on average.

    Their number is fixed, so that seeds differ in bunching and not in how much they ask.
    """
    chance = random.Random(seed)
    return sorted(chance.uniform(0.0, seconds) for _ in range(round(rate * seconds)))
