from __future__ import annotations

import pytest

from loadtests.shapes import SHAPES, users


def drawn(shape: str, *at: float) -> list[int]:
    return [users(shape, elapsed, peak=100, period_s=60) for elapsed in at]


def test_steady_is_its_peak_from_the_first_second() -> None:
    assert drawn("steady", 0, 30, 600) == [100, 100, 100]


def test_a_ramp_climbs_evenly_and_stays() -> None:
    assert drawn("ramp", 0, 15, 30, 60, 90) == [1, 25, 50, 100, 100]


def test_a_spike_comes_in_the_middle_of_every_period() -> None:
    assert drawn("spike", 0, 23.9, 24, 35.9, 36, 59) == [20, 20, 100, 100, 20, 20]
    assert drawn("spike", 60, 90) == [20, 100]


def test_a_day_is_quiet_at_midnight_and_busiest_at_noon() -> None:
    assert drawn("diurnal", 0, 15, 30, 45, 60) == [20, 60, 100, 60, 20]


@pytest.mark.parametrize("shape", [*SHAPES])
@pytest.mark.parametrize("peak", [1, 7, 1000])
def test_there_is_always_somebody_and_never_more_than_the_peak(shape: str, peak: int) -> None:
    counts = [users(shape, elapsed / 10, peak, 60) for elapsed in range(2000)]
    assert min(counts) >= 1
    assert max(counts) == peak
