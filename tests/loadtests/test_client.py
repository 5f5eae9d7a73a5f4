from __future__ import annotations

import asyncio

from loadtests.client import Load, Target, closed_loop
from loadtests.mock import Mock, Pace


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
    assert [answer.status for answer in load.answers] == [503]


async def test_a_refusal_that_says_when_to_return_is_no_error_but_counted_apart() -> None:
    load = await _load(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\ncontent-length: 0\r\n\r\n")
    assert (load.errors, [answer.retry_after for answer in load.refused]) == ([], [7.0])
    assert load.answers[0].error == "HTTP 503: "


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
