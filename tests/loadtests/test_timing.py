"""What Locust's rows are made of: streams with known times, and the answers of a paced mock."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest

from loadtests.client import Target, closed_loop
from loadtests.mock import Mock, Pace
from loadtests.timing import Slo, Stream, Timing

ROLE = b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
HI = b'{"choices":[{"index":0,"delta":{"content":"hi "}}]}'
YOU = b'{"choices":[{"index":0,"delta":{"content":"you"}}]}'
USAGE = b'{"choices":[],"usage":{"completion_tokens":7}}'
DONE = b"[DONE]"


def received(payloads: Sequence[bytes], times: Sequence[float], sent: float = 0.0) -> Stream:
    """The stream of these payloads, each read at its time."""
    stream = io.BytesIO(b": ping\n\n" + b"".join(b"data: %b\r\n\r\n" % p for p in payloads))
    answer, clock = Stream(sent), iter(times)
    answer.receive(lambda _: stream.readline(), lambda: next(clock))
    return answer


def test_a_stream_is_read_to_its_end_with_text_times_and_tokens() -> None:
    answer = received([ROLE, HI, YOU, HI, USAGE, DONE], [10.1, 10.5, 10.75, 11.5, 11.6, 11.7], 10.0)
    assert (answer.error, answer.text, answer.tokens) == (None, "hi youhi ", 7)
    timing = Timing.of(answer, ended=12.0)
    assert timing.ttft == pytest.approx(500)
    assert timing.itl == pytest.approx([250, 750])
    assert timing.tpot == pytest.approx(1000 / 6)  # seven tokens, though in three pieces
    assert timing.e2e == pytest.approx(2000)


def test_waiting_before_the_request_was_sent_counts() -> None:
    late = received([HI, USAGE, DONE], [3.0, 3.0, 3.0], sent=1.0)  # due at 1, whenever it was sent
    assert Timing.of(late, 3.5).ttft == pytest.approx(2000)


def test_an_answer_without_text_has_no_first_token_and_one_token_no_tpot() -> None:
    silent = Timing.of(received([ROLE, USAGE, DONE], [1.0, 1.0, 1.0]), 1.5)
    assert silent == Timing(e2e=1500.0, ttft=None, tpot=None)
    one = USAGE.replace(b"7", b"1")
    assert Timing.of(received([HI, one, DONE], [1.0, 1.0, 1.0]), 1.5).tpot is None


@pytest.mark.parametrize(
    ("payloads", "error"),
    [
        ([HI, USAGE], "the answer did not end"),
        ([HI, b'{"error":{"message":"engine died"}}', DONE], "engine died"),
    ],
)
def test_a_stream_that_breaks_is_an_error(payloads: list[bytes], error: str) -> None:
    assert received(payloads, [0.0] * len(payloads)).error == error


@pytest.mark.parametrize(
    ("slo", "is_met"),
    [
        (Slo(), True),
        (Slo(ttft=200, tpot=20, e2e=1000), True),
        (Slo(ttft=199), False),
        (Slo(tpot=19.9), False),
        (Slo(e2e=999), False),
    ],
)
def test_an_answer_is_good_if_it_keeps_every_stated_slo(slo: Slo, is_met: bool) -> None:
    assert slo.is_met_by(Timing(e2e=1000, ttft=200, tpot=20)) is is_met


def test_an_answer_without_text_breaks_only_the_promise_of_a_first_token() -> None:
    silent = Timing(e2e=10, ttft=None, tpot=None)
    assert Slo(tpot=1, e2e=10).is_met_by(silent)
    assert not Slo(ttft=1000).is_met_by(silent)


def test_the_slos_are_said_in_words() -> None:
    assert str(Slo(ttft=200, e2e=1500)) == "TTFT ≤ 200 ms, E2E ≤ 1500 ms"
    assert str(Slo()) == "no SLO"


async def test_times_are_those_that_the_server_says_it_took() -> None:
    """The mock puts its own clock's times in `usage`; both run in one loop, so they are near."""
    async with await Mock(Pace(ttft_s=0.05, itl_s=0.01, tokens=6)).start() as server:
        target = Target(server.sockets[0].getsockname()[1])
        load = await closed_loop(target, [target.request({})] * 3, streams=1)
    for answer in load.answers:
        truth = answer.usage["truth"]
        timing = Timing.of(answer, answer.last)
        assert timing.ttft is not None and timing.tpot is not None
        assert timing.ttft >= truth["ttft_s"] * 1e3  # never less than the server spent
        assert timing.tpot == pytest.approx(sum(timing.itl) / 5)
        assert timing.ttft + timing.tpot * 5 == pytest.approx(timing.e2e)
        assert timing.e2e >= (truth["ttft_s"] + truth["itl_s"] * 5) * 1e3
