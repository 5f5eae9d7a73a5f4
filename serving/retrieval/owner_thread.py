"""One thread that owns the embedder's turn and the indexes, and works in batches.

Requests that arrive during a batch are answered together in the next one, first come first served,
so that load makes batches larger instead of queues longer. Nobody waits for a batch to fill. A GPU
index demands one owner anyway.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from serving.errors import Overloaded, RetrievalFailed, ServingError

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")
MAX_BATCH = 64
MAX_QUEUED = 1024


@dataclass(frozen=True, slots=True)
class _Batched(Generic[Job]):
    """A job for the next batch."""

    job: Job
    future: Future[Any] = field(default_factory=Future)


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
        item = _Batched(job)
        self._waiting.put(item)
        result: Result = await asyncio.wrap_future(item.future)
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
        """Waits for one item and takes those that came with it."""
        items = [self._waiting.get()]
        while len(items) < self._max_batch and not self._waiting.empty():  # nobody else takes
            items.append(self._waiting.get())
        return items

    def _answer(self, items: list[_Batched[Job]]) -> None:
        items = [item for item in items if item.future.set_running_or_notify_cancel()]
        if items:
            self._run_batch(items)

    def _run_batch(self, items: list[_Batched[Job]]) -> None:
        """A batch that fails is run again one by one: only the job at fault may fail."""
        try:
            results = self._run([item.job for item in items])
        except Exception as error:  # noqa: BLE001 — whoever waits gets it, translated
            if len(items) > 1:
                for item in items:
                    self._run_batch([item])
            else:
                items[0].future.set_exception(_as_serving_error(error))
            return
        for item, result in zip(items, results, strict=True):
            item.future.set_result(result)


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
