"""The ingest worker: takes attached files from the queue and brings each to its end.

Works in a thread of its own from entering to leaving, one file at a time; run several workers
for more. It may be killed anywhere: what it had claimed is taken up again when the lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from serving import telemetry
from serving.errors import InvalidRequest, RequestError
from serving.ingest.pipeline import embedded_chunks
from serving.retrieval.embedder import Embedder
from serving.retrieval.local_retriever import create_embedder
from serving.settings import IngestSettings, RetrievalSettings
from serving.store.chunks import NewChunk
from serving.store.database import Database
from serving.store.files import Files
from serving.store.ingest_queue import ErrorCode, IngestJob, IngestQueue
from serving.store.objects import ObjectStore

log = logging.getLogger(__name__)
HEARTBEATS_PER_LEASE = 4
STUMBLE_S = 1.0  # between attempts while SQL does not answer


class Abandoned(Exception):
    """The worker is being left, or the file is no longer its own."""


class IngestWorker:
    """An async context manager."""

    def __init__(
        self,
        settings: IngestSettings,
        retrieval: RetrievalSettings,
        db: Database,
        objects: ObjectStore,
        embedder: Embedder | None = None,
    ) -> None:
        self._settings = settings
        self._retrieval = retrieval
        self._queue = IngestQueue(db, settings.lease_s)
        self._files = Files(db, objects)
        self._embedder = embedder
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name="engram-ingest", daemon=True)

    async def __aenter__(self) -> Self:
        if self._embedder is None:
            self._embedder = await asyncio.to_thread(create_embedder, self._retrieval)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leaving.set()
        await asyncio.to_thread(self._thread.join)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        while not self._leaving.is_set():
            try:
                busy = self._step()
            except Exception:
                log.exception("cannot reach the queue; trying again")
                self._leaving.wait(STUMBLE_S)
            else:
                if not busy:
                    self._leaving.wait(self._settings.poll_interval_s)

    def _step(self) -> bool:
        """Works on one file; False when there is none."""
        telemetry.INGEST_QUEUED.set(self._queue.depth())
        job = self._queue.claim()
        if job is None:
            return False
        with self._renewing(job) as lost:
            outcome = self._ingest(job, lost)
        telemetry.INGESTED.labels(outcome).inc()
        return True

    def _ingest(self, job: IngestJob, lost: threading.Event) -> str:
        """How it ended: `completed`, `failed`, `retried` or `abandoned`."""
        embedder = self._embedder
        assert embedder is not None  # loaded on entering
        try:
            data = self._files.content(job.tenant, job.file_id)
            chunks = self._watched(
                embedded_chunks(job.filename, data, embedder, self._retrieval.chunk_tokens),
                lost,
            )
            done = self._queue.complete(job, embedder.name, list(chunks))
            return "completed" if done else "abandoned"
        except Abandoned:
            self._queue.release(job)
            return "abandoned"
        except RequestError as error:
            code: ErrorCode = "invalid_file" if type(error) is InvalidRequest else "server_error"
            self._queue.fail(job, code, error.message)
            return "failed"
        except Exception:
            log.exception("ingest stumbled over %s", job.file_id)
            status = self._queue.retry(job, f"'{job.filename}' could not be ingested: server error")
            return "failed" if status == "failed" else "retried"

    def _watched(self, chunks: Iterator[NewChunk], lost: threading.Event) -> Iterator[NewChunk]:
        for chunk in chunks:
            if lost.is_set() or self._leaving.is_set():
                raise Abandoned
            yield chunk

    @contextmanager
    def _renewing(self, job: IngestJob) -> Iterator[threading.Event]:
        """Keeps the claim in a thread beside; the event says that it was lost."""
        lost, done = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(self._settings.lease_s / HEARTBEATS_PER_LEASE):
                try:
                    if not self._queue.renew(job):
                        lost.set()
                        return
                except Exception:
                    log.exception("cannot renew the claim on %s", job.file_id)

        thread = threading.Thread(target=beat, name="engram-ingest-lease", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()
