from __future__ import annotations

import asyncio

import pytest

from loadtests.client import Answer, Events, Load, Target, closed_loop
from loadtests.mock import Mock, Pace

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


async def _load(reply: bytes, requests: int = 1) -> Load:
    """A closed loop against a server that sends `reply` to every request, then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
        writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        target = Target(server.sockets[0].getsockname()[1])
        return await closed_loop(target, [target.request({})] * requests, streams=1)


async def test_a_refusal_is_reported_with_its_status_and_body() -> None:
    load = await _load(b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\ntry later")
    assert load.errors == ["HTTP 503: try later"]


async def test_a_connection_lost_in_mid_answer_is_an_error_and_the_next_request_reconnects() -> (
    None
):
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    load = await _load(head + b"5\r\ndata:\r\n", requests=2)
    assert [error.partition(":")[0] for error in load.errors] == ["ConnectionError"] * 2


async def test_what_is_no_http_is_an_error() -> None:
    load = await _load(b"hello\r\n\r\n")
    assert len(load.errors) == 1


async def test_a_closed_loop_sends_every_request_once_over_kept_connections() -> None:
    connections = 0
    mock = Mock(Pace(ttft_s=0, itl_s=0, tokens=3))

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await mock.serve(reader, writer)

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        target = Target(server.sockets[0].getsockname()[1])
        load = await closed_loop(target, [target.request({})] * 9, streams=2)
    assert (len(load.answers), load.tokens, load.errors, connections) == (9, 27, [], 2)
