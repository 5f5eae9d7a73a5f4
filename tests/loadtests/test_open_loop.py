from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import repeat

import pytest

from loadtests import open_loop as module
from loadtests.client import Target
from loadtests.mock import Mock, Pace
from loadtests.open_loop import Alarm, open_loop, span
from loadtests.schedule import constant

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _listening(serve: Serve) -> AsyncIterator[Target]:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Target(server.sockets[0].getsockname()[1])


async def test_requests_go_out_at_their_times_though_none_is_answered_before_the_last_came() -> (
    None
):
    mock, came, all_came = Mock(Pace(ttft_s=0, itl_s=0, tokens=2)), 0, asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        if came == 10:
            all_came.set()
        await all_came.wait()
        await mock.serve(reader, writer)

    async with _listening(hold) as target:
        load = await open_loop(target, repeat(target.request({})), constant(20, 0.5))
    first = load.answers[0]
    assert (len(load.answers), load.errors, load.tokens) == (10, [], 20)
    assert load.offered == pytest.approx(20)
    for number, answer in enumerate(load.answers):
        assert answer.due is not None and first.due is not None
        assert answer.due - first.due == pytest.approx(number / 20)
        assert answer.sent >= answer.due  # never early
    assert first.ttft > 0.3  # the last came 0.45 s after it, less its connection's lead


async def test_a_connection_is_used_again_and_more_are_opened_when_all_are_busy() -> None:
    opened = 0
    mock = Mock(Pace(ttft_s=0.01, itl_s=0, tokens=1))

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await mock.serve(reader, writer)

    async with _listening(count) as target:
        request = target.request({})
        together = await open_loop(target, [request] * 5, [0.0] * 5)
        assert (opened, together.errors) == (5, [])
        apart = await open_loop(target, [request] * 4, [0.0, 0.3, 0.6, 0.9])
        assert apart.errors == []
        assert opened - 5 < 4  # one, unless this machine stood still


async def test_a_connection_that_was_idle_for_long_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_IDLE_S", 0.0)
    opened: list[asyncio.StreamWriter] = []
    mock = Mock(Pace(ttft_s=0, itl_s=0, tokens=1))

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        await mock.serve(reader, writer)

    async with _listening(count) as target:
        load = await open_loop(target, [target.request({})] * 3, [0.0, 0.2, 0.4])
    assert (len(opened), load.errors) == (3, [])


async def test_a_server_that_is_not_there_fails_every_request_and_none_is_lost() -> None:
    async with _listening(Mock(Pace()).serve) as target:
        pass
    load = await open_loop(target, [target.request({})] * 3, [0.0, 0.01, 0.02])
    assert [error.partition(":")[0] for error in load.errors] == ["ConnectionRefusedError"] * 3


async def test_refusals_are_counted_apart() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with _listening(refuse) as target:
        load = await open_loop(target, [target.request({})] * 2, [0.0, 0.05])
    assert [(answer.status, answer.retry_after) for answer in load.refused] == [(429, 3.0)] * 2
    assert load.errors == []


async def test_time_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="goes back in time"):
        await open_loop(Target(1), [], [1.0, 0.5])


async def test_the_shorter_of_requests_and_schedule_ends_it() -> None:
    async with _listening(Mock(Pace(ttft_s=0, itl_s=0, tokens=1)).serve) as target:
        load = await open_loop(target, [target.request({})] * 2, constant(50, 60))
    assert len(load.answers) == 2
    assert load.offered == pytest.approx(50)


async def test_an_alarm_is_never_early_and_rings_in_order() -> None:
    alarm, began = Alarm(), time.perf_counter()
    rang: list[tuple[float, float]] = []
    dues = [began + 0.0007 * n for n in range(20)]
    for due, future in [(due, alarm.at(due)) for due in dues]:
        await future
        rang.append((due, time.perf_counter()))
    alarm.stop()
    assert all(now >= due for due, now in rang)


def test_a_schedule_lasts_one_gap_beyond_its_last_request() -> None:
    assert span(constant(10, 2)) == pytest.approx(2)
    assert span([3.0]) == span([]) == 0.0
