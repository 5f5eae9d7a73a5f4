"""The retriever itself: searches a library that follows SQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import Embedder, HashingEmbedder, RememberingEmbedder
from serving.retrieval.following import Follower
from serving.retrieval.hybrid import Ranked, RankedHit
from serving.retrieval.index_kinds import create_index
from serving.retrieval.inline import inline_shelf
from serving.retrieval.library import Library
from serving.retrieval.maintenance import Maintenance
from serving.retrieval.owner_thread import OwnerThread
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import create_reranker
from serving.retrieval.searching import Asked, Searcher
from serving.retrieval.shard import WHOLE, Shard
from serving.retrieval.shelf import Shelf
from serving.retrieval.snapshot import Snapshotter
from serving.retrieval.tantivy_lexical import TantivyLexical
from serving.settings import RetrievalSettings
from serving.store.database import Database, SqlFailed
from serving.store.snapshots import Snapshots
from serving.types import Found, Search, VectorStoreId

log = logging.getLogger(__name__)
REMEMBERED_TEXTS = 4096


def create_embedder(settings: RetrievalSettings) -> Embedder:
    """The model that the settings name; the heavy import happens only for the real one."""
    if settings.embedder == "hashing":
        return HashingEmbedder()
    from serving.retrieval.minilm_embedder import MiniLmEmbedder

    return MiniLmEmbedder(settings.threads)


class LocalRetriever:
    """Implements `retriever.Retriever`. Entering it builds the indexes and starts following."""

    def __init__(
        self,
        settings: RetrievalSettings,
        db: Database,
        embedder: Embedder | None = None,
        *,
        shard: Shard = WHOLE,
        snapshots: Snapshots | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._db = db
        self._embedder = embedder
        self._shard = shard
        self._snapshots = snapshots
        self._clock = clock
        self._remembering: Embedder
        self._follower: Follower
        self._maintenance: Maintenance
        self._loop: asyncio.AbstractEventLoop
        self._refiner = Refiner()
        self._searcher: Searcher
        self._owner = OwnerThread[Asked, Ranked](
            self._rank, "engram-retriever", settings.max_batch, settings.max_queued
        )
        self._nudged = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def embedder(self) -> Embedder:
        """The model, for whoever embeds beside the retriever; loaded on entering."""
        if self._embedder is None:
            raise RetrievalFailed("The retriever has not started.")
        return self._embedder

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._load)
        self._owner.start()
        await asyncio.to_thread(self._restore)
        await self.refresh()
        self._tasks = [
            asyncio.create_task(self._follow_for_ever(), name="engram-follow"),
            asyncio.create_task(self._maintain_for_ever(), name="engram-maintain"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.to_thread(self._stop)
        if self._refiner.reranker is not None:
            await self._refiner.reranker.close()

    def _restore(self) -> None:
        """Begins with the newest snapshot, or with nothing."""
        settings = self._settings
        self._follower = Follower(self._db, self._owner, self._new_library)
        snapshotter = None
        if self._snapshots is not None:
            name, every = self.embedder.name, settings.snapshot_every
            snapshotter = Snapshotter(self._db, self._snapshots, self._follower, name, every)
            self._follower.library = snapshotter.restore(self._new_library)
        self._searcher = Searcher(
            self._db,
            self._follower,
            self._remembering,
            settings.candidates,
            self._nudge,
            self._clock,
        )
        self._maintenance = Maintenance(
            self._db,
            self._owner,
            self._follower,
            snapshotter,
            settings.purge_after_days,
            self._clock,
        )

    def _stop(self) -> None:
        try:
            self._maintenance.leave()
        except Exception:
            log.exception("no snapshot was taken on leaving; the next start takes longer")
        self._follower.stop()  # what was cancelled still runs in its thread
        self._owner.stop()

    def _load(self) -> None:
        if self._embedder is None:
            self._embedder = create_embedder(self._settings)
        self._remembering = RememberingEmbedder(self._embedder, REMEMBERED_TEXTS)
        settings = self._settings
        self._refiner = Refiner(
            create_reranker(settings), settings.rerank_candidates, settings.rerank_timeout_s
        )

    def _new_library(self) -> Library:
        return Library(self._shard, self.embedder.dim, self._new_shelf)

    def _new_shelf(self) -> Shelf:
        return Shelf(create_index(self.embedder.dim, self._settings), TantivyLexical())

    async def ready(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def search(self, search: Search) -> Found:
        await self._come_to_know(search)
        asked = self._searcher.asked(search, self._refiner.depth(search))
        if search.documents:
            arguments = search.documents, self._remembering, self._settings.chunk_tokens
            asked = replace(asked, inline=await asyncio.to_thread(inline_shelf, *arguments))

        async def present(hits: tuple[RankedHit, ...]) -> tuple[RankedHit, ...]:
            return (await self._owner.submit(replace(asked, hits=hits))).hits

        ranked = await self._owner.submit(asked)
        found = await self._refiner.refine(ranked, search, present)
        return replace(found, split=self._split(search))

    def _rank(self, asked: Sequence[Asked]) -> list[Ranked]:
        return self._searcher.rank(asked)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors = await asyncio.to_thread(self.embedder.embed, texts)
        return [[float(x) for x in vector] for vector in vectors]

    async def refresh(self) -> int:
        try:
            return await asyncio.to_thread(self._follower.follow)
        except SqlFailed as error:
            log.error("cannot follow SQL", exc_info=error)
            raise RetrievalFailed("The database does not answer. Try again.") from error

    async def maintain(self) -> None:
        """Does the slow work that is due, beside searches and following."""
        await asyncio.to_thread(self._maintenance.run)

    async def _come_to_know(self, search: Search) -> None:
        """Follows SQL where the caller wants its newest, or knows more of a store than is known
        here: that it exists, or that it was split, and then waits for this shard's part of it."""
        library = self._follower.library
        unsure = any(
            not library.owns(search.tenant, store) or library.is_behind(store)
            for store in search.vector_stores
        )
        if search.consistent or unsure:
            await self.refresh()
        if not self._follower.library.incoming.isdisjoint(search.vector_stores):
            await asyncio.to_thread(self._follower.load_incoming)

    def _split(self, search: Search) -> tuple[VectorStoreId, ...]:
        """Those of the stores that other shards have parts of, as it is after the search."""
        library = self._follower.library
        return tuple(filter(library.is_in_parts, dict.fromkeys(search.vector_stores)))

    def _nudge(self) -> None:
        self._loop.call_soon_threadsafe(self._nudged.set)

    async def _follow_for_ever(self) -> None:
        while True:
            await self._pause()
            try:
                await self.refresh()
            except RetrievalFailed:
                log.warning("searches of vector stores fail until SQL answers")

    async def _maintain_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_interval_s)
            try:
                await self.maintain()
            except Exception:
                log.exception("cannot maintain the index; it is tried again")

    async def _pause(self) -> None:
        """Until the next poll, or until a deletion says that there is something new."""
        try:
            async with asyncio.timeout(self._settings.poll_interval_s):
                await self._nudged.wait()
        except TimeoutError:
            pass
        self._nudged.clear()
