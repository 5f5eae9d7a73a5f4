from __future__ import annotations

import pytest

from loadtests.answer import Answer
from loadtests.load import Load
from loadtests.timing import Slo


def _answer(ttft_s: float, error: str | None = None, status: int = 200) -> Answer:
    usage = {"completion_tokens": 3}
    return Answer(0.1, ttft_s, ttft_s, [], usage, error, due=0.0, ended=ttft_s, status=status)


def test_goodput_is_what_kept_its_slo_over_the_time_in_which_it_was_due() -> None:
    answers = [_answer(0.2), _answer(0.4), _answer(0.1, "lost"), _answer(0.1, "full", 429)]
    load = Load(answers, wall_s=4.0, client_cpu_s=1.0, offered_s=2.0)
    assert load.offered == 2.0
    assert load.goodput(Slo(ttft=300)) == 0.5
    assert load.goodput(Slo()) == 1.0
    assert (load.errors, len(load.refused), load.client_share) == (["lost"], 1, 0.25)
    assert [timing.ttft for timing in load.timings()] == pytest.approx([200, 400])


def test_a_closed_loop_offers_what_it_asks_while_it_runs() -> None:
    load = Load([_answer(0.2)] * 6, wall_s=3.0, client_cpu_s=0.0)
    assert (load.offered, load.goodput(Slo())) == (2.0, 2.0)
