"""Does it grow? The slope of a series of samples, with an interval that knows of their memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BATCHES = 10  # samples that are neighbours are alike; means of tenths of the time hardly are
_T = 2.306  # Student's for 95 % with two parameters of so many means


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth per hour with its 95 % interval; `first` and `last` are the line's ends."""

    per_hour: float
    low: float
    high: float
    first: float
    last: float


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """The least-squares line through the means of batches.

    Raises:
        ValueError: fewer samples than two a batch.
    """
    if len(values) < 2 * BATCHES:
        raise ValueError(
            f"{len(values)} samples are too few for a slope, which takes {2 * BATCHES}"
        )
    hours, means = _batches(seconds) / 3600, _batches(values)
    per_hour, start = np.polyfit(hours, means, 1)
    rest = means - (start + per_hour * hours)
    spread = ((hours - hours.mean()) ** 2).sum()
    error = _T * float(np.sqrt((rest @ rest) / (BATCHES - 2) / spread))
    first, last = (float(start + per_hour * at / 3600) for at in (seconds[0], seconds[-1]))
    return Slope(float(per_hour), float(per_hour - error), float(per_hour + error), first, last)


def _batches(values: Sequence[float]) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(np.asarray(values), BATCHES)])
