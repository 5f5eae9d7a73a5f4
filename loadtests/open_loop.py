"""Sends requests when a schedule says, whether earlier ones have ended or not.

A closed loop asks a slow server less, and so hides the waits that users would have had. Here every
request has its time, a connection is ready before it, and latency counts from when it was due.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from queue import SimpleQueue

from loadtests.answer import Answer
from loadtests.client import Connection, Target, connect
from loadtests.load import Load

LEAD_S = 0.1  # before it is due: encode the request, open its connection
MAX_IDLE_S = 1.0  # below every server's keep-alive, so that none closes what is about to be used


async def open_loop(target: Target, requests: Iterable[bytes], schedule: Sequence[float]) -> Load:
    """Sends each request at its second of the schedule, counted from the start.

    Ends with the shorter of the two. A request is taken before its time, so it may be made on the
    way. Answers come in the schedule's order; those that failed say so in `Answer.error`.

    Raises:
        ValueError: the schedule goes back in time.
    """
    if any(later < earlier for earlier, later in pairwise(schedule)):
        raise ValueError("the schedule goes back in time; sort it")
    connections, alarm = Pool(target), Alarm()
    tasks: list[asyncio.Task[Answer]] = []
    cpu, began = time.process_time(), time.perf_counter() + LEAD_S
    try:
        async with asyncio.TaskGroup() as group:
            for second, request in zip(schedule, requests, strict=False):
                due = began + second
                await asyncio.sleep(due - LEAD_S - time.perf_counter())
                asked = _ask(connections, request, due, alarm.at(due))
                tasks.append(group.create_task(asked))
    finally:
        alarm.stop()
        connections.close()
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    answers = [task.result() for task in tasks]
    return Load(answers, wall_s, cpu_s, span(schedule[: len(answers)]) or wall_s)


def span(schedule: Sequence[float]) -> float:
    """Seconds that a schedule offers load: its mean gap times its requests; 0 of one moment."""
    gaps = len(schedule) - 1
    return (schedule[-1] - schedule[0]) / gaps * len(schedule) if gaps > 0 else 0.0


async def _ask(
    connections: Pool, request: bytes, due: float, alarm: asyncio.Future[None]
) -> Answer:
    try:
        connection = await connections.take()
    except OSError as error:
        await alarm
        now = time.perf_counter()
        return Answer(now, error=f"{type(error).__name__}: {error}", due=due, ended=now)
    ready = max(due, time.perf_counter())
    await alarm
    answer = await connection.ask(request, due)
    answer.late = answer.sent - ready
    connections.give(connection)
    return answer


class Pool:
    """Open connections that nobody uses; as many more are opened as are needed."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: deque[tuple[float, Connection]] = deque()

    async def take(self) -> Connection:
        """The connection used last, or a new one. Raises OSError if none can be opened."""
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_open and time.perf_counter() - since < MAX_IDLE_S:
                return connection
            connection.close()
        return await connect(self._target)

    def give(self, connection: Connection) -> None:
        if connection.is_open:
            self._idle.append((time.perf_counter(), connection))

    def close(self) -> None:
        for _, connection in self._idle:
            connection.close()


class Alarm:
    """Wakes tasks within a fraction of a millisecond, and never early.

    A thread sleeps from one time to the next, since timers of event loops count milliseconds.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._times: SimpleQueue[tuple[float, asyncio.Future[None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
        self._thread.start()

    def at(self, due: float) -> asyncio.Future[None]:
        """Done at that time of `perf_counter`; times must ascend."""
        future = self._loop.create_future()
        self._times.put((due, future))
        return future

    def stop(self) -> None:
        """Waits for the last alarm, which is near: see `LEAD_S`."""
        self._times.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (entry := self._times.get()) is not None:
            due, future = entry
            time.sleep(max(0.0, due - time.perf_counter()))
            self._loop.call_soon_threadsafe(_ring, future)


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():  # cancelled, if the loop was
        future.set_result(None)
