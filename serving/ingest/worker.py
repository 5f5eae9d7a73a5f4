"""The ingest worker: takes attached files from the queue and brings each to its end.

Works in a thread of its own from entering to leaving, one file at a time; run several workers
for more. It may be killed anywhere: what it had claimed is taken up again when the lease runs out.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import Self

from serving import telemetry
from serving.errors import RequestError
from serving.ingest.sandbox import Abandoned, Sandbox
from serving.ingest.spool import Spool
from serving.ingest.strategy import strategy
from serving.retrieval.chunker import Chunk, searchable
from serving.retrieval.embedder import Embedder
from serving.retrieval.local_retriever import create_embedder
from serving.settings import IngestSettings, RetrievalSettings
from serving.store import expiry
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.files import Files
from serving.store.ingest_queue import IngestJob, IngestQueue
from serving.store.objects import ObjectStore
from serving.store.splitting import split_if_large
from serving.store.vector_stores import FileStatus

log = logging.getLogger(__name__)
HEARTBEATS_PER_LEASE = 4
BATCH = 64  # chunks
SWEEP_S = 30.0
STUMBLE_S = 1.0  # between attempts while SQL does not answer


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
        self._db, self._objects, self._swept = db, objects, -SWEEP_S
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
        with closing(Sandbox(self._settings)) as sandbox, closing(self._queue):
            while not self._leaving.is_set():
                try:
                    self._sweep()
                    busy = self._step(sandbox)
                except Exception:
                    log.exception("cannot reach the queue; trying again")
                    self._leaving.wait(STUMBLE_S)
                else:
                    if not busy:
                        self._leaving.wait(self._settings.poll_interval_s)

    def _sweep(self) -> None:
        """Now and then ends what has expired."""
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()  # first: a sweep that fails holds up no file
            expiry.sweep(self._db, self._objects)

    def _step(self, sandbox: Sandbox) -> bool:
        """Works on one file; False when there is none."""
        depth = self._queue.depth()
        telemetry.INGEST_QUEUED.set(depth)
        job = self._queue.claim() if depth else None
        if job is None:
            return False
        with self._renewing(job) as lost:
            outcome = self._bring_to_its_end(job, sandbox, lost)
        if outcome == "completed":
            split_if_large(self._db, job.store, self._retrieval.split_above)
        telemetry.INGESTED.labels(outcome).inc()
        return True

    def _bring_to_its_end(self, job: IngestJob, sandbox: Sandbox, lost: threading.Event) -> str:
        """How it ended: `completed`, `failed`, `retried` or `abandoned`."""
        try:
            return "completed" if self._ingest(job, sandbox, lost) else "abandoned"
        except Abandoned:
            self._queue.release(job)
            return "abandoned"
        except RequestError as error:
            self._queue.fail(job, getattr(error, "error_code", "server_error"), error.message)
            return "failed"
        except Exception:
            log.exception("ingest stumbled over %s", job.file_id)
            status = self._queue.retry(job, f"'{job.filename}' could not be ingested: server error")
            return "failed" if status is FileStatus.FAILED else "retried"

    def _ingest(self, job: IngestJob, sandbox: Sandbox, lost: threading.Event) -> bool:
        embedder = self._embedder
        assert embedder is not None  # loaded on entering
        clock = _Stages()
        data = self._files.content(job.tenant, job.file_id)
        how = strategy(job.chunking, self._retrieval.chunk_tokens)
        pieces = sandbox.cut(
            job.filename, data, how, lambda: lost.is_set() or self._leaving.is_set()
        )
        with closing(pieces), Spool() as spool:
            spool.add(embedded(clock.timed("parse", pieces), embedder))
            clock.ended("embed")
            telemetry.INGEST_MEMORY.set(_peak_memory_bytes())
            done = self._queue.complete(job, embedder.name, spool)
            clock.ended("store")
        return done

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


def embedded(pieces: Iterable[Chunk], embedder: Embedder) -> Iterator[NewChunk]:
    """The chunks with their vectors, embedded a batch at a time."""
    rest = iter(pieces)
    while batch := list(islice(rest, BATCH)):
        vectors = embedder.embed([searchable(p.heading_path, p.text) for p in batch])
        for p, vector in zip(batch, vectors, strict=True):
            yield NewChunk(p.text, p.title, p.heading_path, p.start, p.end, vector)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class _Stages:
    """Seconds by stage: those inside `timed` count for it, the others for what ended next."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._inside = 0.0

    def timed(self, stage: str, pieces: Iterator[Chunk]) -> Iterator[Chunk]:
        took = 0.0
        while True:
            began = time.perf_counter()
            piece = next(pieces, None)
            took += time.perf_counter() - began
            if piece is None:
                break
            yield piece
        self._inside = took
        telemetry.INGEST_STAGE.labels(stage).observe(took)

    def ended(self, stage: str) -> None:
        now = time.perf_counter()
        telemetry.INGEST_STAGE.labels(stage).observe(now - self._since - self._inside)
        self._since, self._inside = now, 0.0
