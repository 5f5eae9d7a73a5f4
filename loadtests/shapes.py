"""How many users there are at a time: pure functions of the seconds since the start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

QUIET = 0.2  # of the peak: the night of a diurnal load, the calm around a spike
SPIKE = (0.4, 0.6)  # of the period


def steady(_at: float) -> float:
    return 1.0


def ramp(at: float) -> float:
    """From nothing to the peak once, which then stays."""
    return min(at, 1.0)


def spike(at: float) -> float:
    """Quiet, and for the fifth in the middle of every period five times as many."""
    return 1.0 if SPIKE[0] <= at % 1.0 < SPIKE[1] else QUIET


def diurnal(at: float) -> float:
    """A day in one period, from midnight to midnight: a cosine between quiet and the peak."""
    return QUIET + (1.0 - QUIET) * (1.0 - math.cos(2 * math.pi * at)) / 2


SHAPES: Mapping[str, Callable[[float], float]] = {
    "steady": steady,
    "ramp": ramp,
    "spike": spike,
    "diurnal": diurnal,
}


def users(shape: str, elapsed_s: float, peak: int, period_s: float) -> int:
    """Users at a time of a shape whose period is `period_s` and whose highest point is `peak`."""
    return max(1, round(peak * SHAPES[shape](elapsed_s / period_s)))
