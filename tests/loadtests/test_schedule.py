from __future__ import annotations

from itertools import pairwise
from statistics import fmean

import pytest

from loadtests.schedule import constant, poisson


def test_a_constant_schedule_is_even_and_ends_before_its_seconds_do() -> None:
    assert constant(rate=4, seconds=1) == [0, 0.25, 0.5, 0.75]


def test_a_poisson_schedule_bunches_as_chance_does_and_repeats_with_its_seed() -> None:
    due = poisson(rate=100, seconds=100, seed=1)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    assert len(due) == 10_000 and min(gaps) >= 0 and due[0] >= 0 and due[-1] < 100
    mean = fmean(gaps)
    spread = fmean((gap - mean) ** 2 for gap in gaps) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05)  # of an exponential gap they are equal
    assert poisson(100, 100, seed=1) == due != poisson(100, 100, seed=2)
