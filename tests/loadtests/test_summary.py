from __future__ import annotations

from loadtests.answer import Answer
from loadtests.load import Load
from loadtests.summary import Summary
from loadtests.timing import Slo


def _answer(
    ttft_s: float, error: str | None = None, status: int = 200, late: float = 0.0
) -> Answer:
    """Due at 0, sent at 0.1: three tokens, of which the last comes 0.2 s after the first."""
    usage = {} if error else {"completion_tokens": 3}
    first, last = (None, 0.0) if error else (ttft_s, ttft_s + 0.2)
    ended = ttft_s + 0.2
    return Answer(0.1, first, last, [0.1, 0.1], usage, error, 0.0, late, ended, status)


def test_a_load_in_numbers() -> None:
    answers = [_answer(0.2), _answer(0.4, late=0.002), _answer(0.8, "HTTP 429: ", 429)]
    load = Load([*answers, _answer(0.1, "lost")], 2.0, client_cpu_s=1.5, offered_s=1.0)
    summary = Summary.of(load, Slo(ttft=300))
    assert (summary.requests, summary.completed, summary.refused) == (4, 2, 1)
    assert (summary.offered, summary.throughput, summary.goodput) == (4.0, 1.0, 1.0)
    assert (summary.tokens, summary.client_us_per_token) == (6, 250_000.0)
    assert round(summary.ttft_ms.p50) == 200 and round(summary.ttft_ms.p99) == 400
    assert round(summary.tpot_ms.mean) == 100 and round(summary.refused_ms.p50) == 1000
    text = "\n".join(summary.lines())
    assert "1 refused, 1 failed" in text
    assert "error, 1 times: lost" in text
    assert "refusal" in text and "short of CPU" in text and "TTFT ≤ 300 ms" in text


def test_what_was_not_seen_is_not_shown() -> None:
    summary = Summary.of(Load([_answer(0.1, "lost")] * 2, 1.0, 0.1), Slo())
    text = "\n".join(summary.lines())
    assert "nan" not in text and "E2E" not in text
    assert summary.errors == {"lost": 2}
