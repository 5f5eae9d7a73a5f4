from __future__ import annotations

import pytest

from loadtests.answer import Answer, Events

ROLE = b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
TEXT = b'{"choices":[{"index":0,"delta":{"content":"hi"}}]}'
USAGE = b'{"choices":[],"usage":{"completion_tokens":7}}'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_events_are_the_same_however_the_stream_is_cut(size: int) -> None:
    stream = b": ping\n\ndata: one\n\ndata:two\r\n\r\nevent: x\ndata: [DONE]\n\n"
    events = Events()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [payload for piece in pieces for payload in events.feed(piece)] == [
        b"one",
        b"two",
        b"[DONE]",
    ]


def test_the_first_token_is_the_first_with_text_and_tokens_come_from_usage() -> None:
    answer = Answer(sent=10.0)
    for payload, now in (
        (ROLE, 10.1),
        (TEXT, 10.5),
        (TEXT, 10.75),
        (USAGE, 10.8),
        (b"[DONE]", 10.8),
    ):
        answer.read(payload, now)
    assert answer.error is None
    assert (answer.ttft, answer.gaps, answer.tokens) == (0.5, [0.25], 7)


def test_completions_have_their_text_in_the_choice() -> None:
    answer = Answer(sent=0.0)
    answer.read(b'{"choices":[{"index":0,"text":"hi"}]}', 2.0)
    assert answer.ttft == 2.0


@pytest.mark.parametrize(
    ("payloads", "error"),
    [
        ([TEXT, USAGE], "the answer did not end"),
        ([TEXT, b"[DONE]"], "the answer has no usage"),
        ([TEXT, b'{"error":{"message":"engine died"}}', b"[DONE]"], "engine died"),
    ],
)
def test_a_stream_without_a_proper_end_is_an_error(payloads: list[bytes], error: str) -> None:
    answer = Answer(sent=0.0)
    for payload in payloads:
        answer.read(payload, 1.0)
    assert answer.error == error


def test_latency_counts_from_when_it_was_due() -> None:
    assert Answer(sent=3.0, first=5.0).ttft == 2.0
    assert Answer(sent=3.0, first=5.0, due=1.0).ttft == 4.0


@pytest.mark.parametrize(
    ("status", "retry_after", "is_refused"),
    [
        (429, None, True),
        (503, 1.0, True),
        (503, None, False),
        (500, 1.0, False),
        (200, None, False),
    ],
)
def test_only_429_and_a_503_that_says_when_to_return_are_refusals(
    status: int, retry_after: float | None, is_refused: bool
) -> None:
    assert Answer(0.0, status=status, retry_after=retry_after).is_refused is is_refused
