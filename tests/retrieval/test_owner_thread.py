"""The owner thread: who waits together is answered together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from serving.errors import NotFound, Overloaded, RetrievalFailed
from serving.retrieval.owner_thread import OwnerThread


class Squares:
    """Squares numbers; waits inside a batch until it may go on, fails at 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.pause_s = 0.0

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.entered.set()
        self.may_go_on.wait(10)
        time.sleep(self.pause_s)
        if 13 in numbers:
            raise ZeroDivisionError
        return [number * number for number in numbers]


@pytest.fixture
def squares() -> Squares:
    return Squares()


@pytest.fixture
def owner(squares: Squares) -> Iterator[OwnerThread[int, int]]:
    thread = OwnerThread[int, int](squares, "squares")
    thread.start()
    yield thread
    thread.stop()


async def busy(owner: OwnerThread[int, int], squares: Squares) -> asyncio.Task[int]:
    """A batch that has begun and does not end yet."""
    squares.may_go_on.clear()
    first = asyncio.create_task(owner.submit(1))
    await asyncio.to_thread(squares.entered.wait, 10)
    return first


async def test_jobs_that_arrive_during_a_batch_share_the_next(
    owner: OwnerThread[int, int], squares: Squares
) -> None:
    first = await busy(owner, squares)
    others = [asyncio.create_task(owner.submit(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    squares.may_go_on.set()
    assert await asyncio.gather(first, *others) == [1, 4, 9, 16]
    assert squares.batches == [[1], [2, 3, 4]]


async def test_a_cancelled_job_is_skipped(owner: OwnerThread[int, int], squares: Squares) -> None:
    first = await busy(owner, squares)
    gone, stays = (asyncio.create_task(owner.submit(n)) for n in (2, 3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    squares.may_go_on.set()
    assert (await first, await stays) == (1, 9)
    assert squares.batches == [[1], [3]]


async def test_batches_have_a_largest_size_and_keep_the_order_of_arrival(squares: Squares) -> None:
    owner = OwnerThread[int, int](squares, "squares", max_batch=3)
    owner.start()
    first = await busy(owner, squares)
    others = [asyncio.create_task(owner.submit(n)) for n in range(2, 9)]
    await asyncio.sleep(0)
    squares.may_go_on.set()
    await asyncio.gather(first, *others)
    owner.stop()
    assert squares.batches == [[1], [2, 3, 4], [5, 6, 7], [8]]


async def test_a_full_queue_refuses_and_has_room_again(squares: Squares) -> None:
    owner = OwnerThread[int, int](squares, "squares", max_queued=2)
    owner.start()
    first = await busy(owner, squares)
    waiting = [asyncio.create_task(owner.submit(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="max_queued"):
        await owner.submit(4)
    squares.may_go_on.set()
    assert await asyncio.gather(first, *waiting) == [1, 4, 9]
    assert await owner.submit(4) == 16
    owner.stop()


async def test_one_job_at_fault_spoils_no_other(
    owner: OwnerThread[int, int], squares: Squares
) -> None:
    first = await busy(owner, squares)
    jobs = [asyncio.create_task(owner.submit(n)) for n in (2, 13, 3)]
    await asyncio.sleep(0)
    squares.may_go_on.set()
    two, bad, three = await asyncio.gather(*jobs, return_exceptions=True)
    assert (await first, two, three) == (1, 4, 9)
    assert isinstance(bad, RetrievalFailed)


async def test_those_just_answered_ask_together_again(
    owner: OwnerThread[int, int], squares: Squares
) -> None:
    """As many clients in a closed loop come to share every batch, instead of one running ahead."""

    async def client(number: int) -> None:
        for _ in range(20):
            await owner.submit(number)

    squares.pause_s = 0.02
    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(client(number))
    assert max(map(len, squares.batches)) == 6
    assert len(squares.batches) < 40  # 120 jobs


async def test_a_failure_is_translated_and_the_thread_goes_on(
    owner: OwnerThread[int, int],
) -> None:
    with pytest.raises(RetrievalFailed, match="ZeroDivisionError"):
        await owner.submit(13)
    assert await owner.submit(2) == 4


async def test_a_call_runs_on_the_thread_and_raises_where_it_was_made(
    owner: OwnerThread[int, int],
) -> None:
    assert await asyncio.to_thread(owner.call, threading.current_thread) is not (
        threading.current_thread()
    )
    with pytest.raises(NotFound):
        await asyncio.to_thread(owner.call, refuse)


def refuse() -> None:
    raise NotFound("no")
