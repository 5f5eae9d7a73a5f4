from __future__ import annotations

import pytest

from loadtests.client import Answer, Load
from loadtests.selftest import compare, selftest


def _load(ttft_s: float, itl_s: float, cpu_s: float = 0.01, error: str | None = None) -> Load:
    """One answer whose server says 20 ms and 5 ms."""
    answer = Answer(0.0, ttft_s, ttft_s + itl_s, [itl_s], error=error)
    answer.usage = {"completion_tokens": 2, "truth": {"ttft_s": 0.02, "itl_s": 0.005}}
    return Load([answer], wall_s=1.0, client_cpu_s=cpu_s)


def test_errors_are_relative_to_what_the_server_did() -> None:
    result = compare(_load(0.021, 0.0045), _load(0.02, 0.005))
    assert result.ttft_error == pytest.approx(0.05)
    assert result.itl_error == pytest.approx(0.1)
    assert not result.passed


def test_an_exact_client_passes_unless_it_is_too_busy_or_a_request_failed() -> None:
    exact = _load(0.02, 0.005)
    assert compare(exact, exact).passed
    assert not compare(exact, _load(0.02, 0.005, cpu_s=0.6)).passed
    assert not compare(exact, _load(0.02, 0.005, error="lost")).passed
    assert not compare(_load(0.02, 0.005, error="lost"), exact).passed


async def test_the_client_sees_what_a_real_server_did() -> None:
    result = await selftest()
    assert result.failed == 0
    assert 0 < result.cpu_us_per_token < 1000  # how exact it is, a busy machine cannot tell
