from __future__ import annotations

import pytest

from loadtests.adapters_routing import simulate, zipf


def run(policy: str, adapters: int) -> tuple[float, float]:
    return simulate(policy, adapters, slots=8, replicas=4, requests=3_000, skew=1.1)


def test_shares_are_those_of_a_zipf_law() -> None:
    shares = zipf(40, 1.1)
    assert sum(shares) == pytest.approx(1)
    assert shares[0] / shares[9] == pytest.approx(10**1.1)


@pytest.mark.parametrize("policy", ["any", "one", "spread"])
def test_where_every_adapter_fits_none_is_missed(policy: str) -> None:
    assert run(policy, 8)[0] == 1.0


def test_the_spread_hits_nearly_as_often_as_one_replica_each_and_is_far_more_even() -> None:
    (any_hits, _), (one_hits, one_over), (hits, over) = (
        run(policy, 32) for policy in ("any", "one", "spread")
    )
    assert any_hits < hits <= one_hits + 0.01
    assert over < one_over
