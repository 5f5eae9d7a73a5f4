from __future__ import annotations

from dataclasses import replace

import pytest

from loadtests.answer import Answer
from loadtests.load import Load
from loadtests.schedule import constant
from loadtests.selftest import (
    STALL_AT,
    STALL_FOR_S,
    STALL_RATE,
    STALL_S,
    Runs,
    compare,
    selftest,
)


def _load(ttft_s: float, itl_s: float, cpu_s: float = 0.01, error: str | None = None) -> Load:
    """One answer whose server says 20 ms and 5 ms."""
    answer = Answer(0.0, ttft_s, ttft_s + itl_s, [itl_s], error=error)
    answer.usage = {"completion_tokens": 2, "truth": {"ttft_s": 0.02, "itl_s": 0.005}}
    return Load([answer], wall_s=1.0, client_cpu_s=cpu_s)


def _stalled(forgets_when_due: bool = False) -> Load:
    """Two seconds of a server that stands still from the 20th request on, and then is prompt."""
    until = (STALL_AT - 1) / STALL_RATE + STALL_S
    answers = []
    for number, due in enumerate(constant(STALL_RATE, STALL_FOR_S), 1):
        begins = until if number >= STALL_AT and due < until else due
        sent = begins if forgets_when_due and number != STALL_AT else due
        answer = Answer(sent, begins + 0.02, gaps=[0.005], error=None)
        answer.usage = {"completion_tokens": 2, "truth": {"ttft_s": 0.02, "itl_s": 0.005}}
        answers.append(answer)
    return Load(answers, wall_s=2.0, client_cpu_s=0.01)


EXACT = _load(0.02, 0.005)
RUNS = Runs(EXACT, EXACT, EXACT, EXACT, _stalled())


def test_errors_are_relative_to_what_the_server_did() -> None:
    result = compare(replace(RUNS, calm=_load(0.021, 0.0045), open_calm=_load(0.0204, 0.005)))
    assert result.ttft_error == pytest.approx(0.05)
    assert result.itl_error == pytest.approx(0.1)
    assert result.open_ttft_error == pytest.approx(0.02)
    assert not result.passed


def test_an_exact_client_passes_unless_it_is_too_busy_or_a_request_failed() -> None:
    assert compare(RUNS).passed
    assert not compare(replace(RUNS, busy=_load(0.02, 0.005, cpu_s=0.6))).passed
    assert not compare(replace(RUNS, open_busy=_load(0.02, 0.005, cpu_s=0.6))).passed
    assert not compare(replace(RUNS, busy=_load(0.02, 0.005, error="lost"))).passed
    assert not compare(replace(RUNS, open_calm=_load(0.02, 0.005, error="lost"))).passed


def test_a_client_that_forgets_when_requests_were_due_misses_a_stall_and_fails() -> None:
    assert compare(RUNS).stall_error == pytest.approx(0)
    hidden = compare(replace(RUNS, stalled=_stalled(forgets_when_due=True)))
    assert hidden.stall_error > 0.9
    assert not hidden.passed


async def test_the_client_sees_what_a_real_server_did() -> None:
    result = await selftest()
    assert result.failed == 0
    assert 0 < result.cpu_us_per_token < 1000  # how exact it is, a busy machine cannot tell
    assert result.stall_error < 0.9  # a client that forgets when requests were due has 0.96
