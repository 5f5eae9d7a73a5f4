from __future__ import annotations

import math
import random

import pytest

from loadtests.statistics import estimate, percentile, ratio


def test_percentiles_are_values_that_occurred() -> None:
    values = list(range(1, 101))
    assert [percentile(values, p) for p in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert math.isnan(percentile([], 50))


def test_equal_repeats_leave_no_doubt() -> None:
    found = estimate([3.0, 3.0, 3.0])
    assert (found.value, found.low, found.high) == (3.0, 3.0, 3.0)


def test_the_interval_lies_within_the_repeats_and_around_the_median() -> None:
    found = estimate([1.0, 5.0, 2.0, 4.0, 3.0])
    assert found.value == 3.0
    assert 1.0 <= found.low < 3.0 < found.high <= 5.0


def test_a_ratio_cancels_what_slows_both_neighbours() -> None:
    found = ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_turns_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_most_intervals_contain_the_truth() -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(40):
        found = estimate([chance.gauss(10, 1) for _ in range(25)])
        held += found.low <= 10 <= found.high
    assert 34 <= held <= 40
