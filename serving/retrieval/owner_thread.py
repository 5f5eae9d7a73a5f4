"""One thread that owns the embedder's turn and the indexes, and works in batches.

Requests that arrive during a batch are answered together in the next one, first come first served,
so that load makes batches larger instead of queues longer. A GPU index demands one owner anyway.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Generic, TypeVar

from serving.errors import Overloaded, RetrievalFailed, ServingError

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")
MAX_BATCH = 64
MAX_QUEUED = 1024
GATHER_SHARE = 0.05  # of a batch's time the next one may wait for as many again


@dataclass(frozen=True, slots=True)
class _Batched(Generic[Job]):
    """A job for the next batch, and who waits for it."""

    job: Job
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Call:
    """Something to do between batches."""

    function: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class OwnerThread(Generic[Job, Result]):
    """`run` answers a batch of jobs, in order, on the thread; `start` and `stop` frame its life."""

    def __init__(
        self,
        run: Callable[[Sequence[Job]], Sequence[Result]],
        name: str,
        max_batch: int = MAX_BATCH,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._last_size = 1
        self._last_s = 0.0
        self._waiting: queue.SimpleQueue[_Batched[Job] | _Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after what is waiting."""
        self._waiting.put(None)
        self._thread.join()

    async def submit(self, job: Job) -> Result:
        """Joins the next batch. A cancelled job is skipped if its batch has not begun.

        Raises:
            RetrievalFailed: the batch failed.
            Overloaded: too many wait already.
        """
        if self._waiting.qsize() >= self._max_queued:
            raise Overloaded(
                f"{self._max_queued} searches wait for the retriever; try again, or raise "
                "retrieval.max_queued or server.retriever_replicas."
            )
        loop = asyncio.get_running_loop()
        item = _Batched(job, loop, loop.create_future())
        self._waiting.put(item)
        result: Result = await item.future
        return result

    def call(self, function: Callable[[], T]) -> T:
        """Runs `function` on the thread between batches and waits for it."""
        item = _Call(function)
        self._waiting.put(item)
        result: T = item.future.result()
        return result

    def _work(self) -> None:
        working = True
        while working:
            items = self._take()
            working = None not in items
            for item in items:
                if isinstance(item, _Call):
                    _settle(item)
            self._answer([item for item in items if isinstance(item, _Batched)])

    def _take(self) -> list[_Batched[Job] | _Call | None]:
        """Waits for one item and takes those that came with it.

        Those just answered often ask again at once. Without a moment's patience the first of them
        would get a batch of its own, and all others would wait for it.
        """
        items = [self._waiting.get()]
        patient_until = perf_counter() + GATHER_SHARE * self._last_s
        while len(items) < self._max_batch:
            patience = patient_until - perf_counter() if len(items) < self._last_size else 0.0
            try:
                items.append(self._waiting.get(patience > 0, max(patience, 0.0)))
            except queue.Empty:
                break
        return items

    def _answer(self, items: list[_Batched[Job]]) -> None:
        items = [item for item in items if not item.future.done()]  # the others were cancelled
        if not items:
            return
        began = perf_counter()
        outcomes = self._run_batch([item.job for item in items])
        self._last_size, self._last_s = len(items), perf_counter() - began
        _deliver(items, outcomes)

    def _run_batch(self, jobs: list[Job]) -> list[Result | ServingError]:
        """A batch that fails is run again one by one: only the job at fault may fail."""
        try:
            return list(self._run(jobs))
        except Exception as error:  # noqa: BLE001 — whoever waits gets it, translated
            if len(jobs) == 1:
                return [_as_serving_error(error)]
            return [outcome for job in jobs for outcome in self._run_batch([job])]


def _deliver(items: Sequence[_Batched[Any]], outcomes: Sequence[Any]) -> None:
    """Wakes each event loop once for all its callers, not once for each of them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for item, outcome in zip(items, outcomes, strict=True):
        by_loop.setdefault(item.loop, []).append((item.future, outcome))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, answers)
        except RuntimeError:  # closed: nobody waits there any more
            log.debug("answers for an event loop that has ended")


def _set(answers: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, outcome in answers:
        if future.done():
            continue
        if isinstance(outcome, ServingError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _settle(item: _Call) -> None:
    try:
        item.future.set_result(item.function())
    except Exception as error:  # noqa: BLE001 — raised again where `call` waits
        item.future.set_exception(error)


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    log.error("retrieval failed", exc_info=error)
    return RetrievalFailed(f"Retrieval failed ({type(error).__name__}).")
