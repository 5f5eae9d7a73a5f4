"""The retriever itself: searches a library that follows SQL."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import Embedder, HashingEmbedder, RememberingEmbedder
from serving.retrieval.filters import Keep, compile_filter
from serving.retrieval.following import Follower
from serving.retrieval.fusion import Weights
from serving.retrieval.hybrid import Job, Place, Ranked, rank
from serving.retrieval.index_kinds import create_index
from serving.retrieval.inline import inline_shelf
from serving.retrieval.library import Library
from serving.retrieval.maintenance import Maintenance
from serving.retrieval.owner_thread import OwnerThread
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import create_reranker
from serving.retrieval.shard import WHOLE, Shard
from serving.retrieval.shelf import Shelf
from serving.retrieval.snapshot import Snapshotter
from serving.retrieval.tantivy_lexical import TantivyLexical
from serving.settings import RetrievalSettings
from serving.store.chunks import StoreState, store_state
from serving.store.database import Database, SqlFailed
from serving.store.scope import unknown_store
from serving.store.snapshots import Snapshots
from serving.types import Found, Search, VectorStoreId

log = logging.getLogger(__name__)
REMEMBERED_TEXTS = 4096
MAX_QUERY_CHARS = 8192


def create_embedder(settings: RetrievalSettings) -> Embedder:
    """The model that the settings name; the heavy import happens only for the real one."""
    if settings.embedder == "hashing":
        return HashingEmbedder()
    from serving.retrieval.minilm_embedder import MiniLmEmbedder

    return MiniLmEmbedder(settings.threads)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A search on its way to the owner thread. Its shelves are looked up there, after the newest
    deletions were applied."""

    search: Search
    keep: Keep | None = None
    inline: Shelf | None = None


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
        self._owner = OwnerThread[_Asked, Ranked](
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
        keep = compile_filter(search.filters) if search.filters else None
        await self._come_to_know(search)
        inline = None
        if search.documents:
            arguments = search.documents, self._remembering, self._settings.chunk_tokens
            inline = await asyncio.to_thread(inline_shelf, *arguments)
        ranked = await self._owner.submit(_Asked(search, keep, inline))
        found = await self._refiner.refine(ranked, search)
        return replace(found, split=self._split(search))

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

    def _rank(self, asked: Sequence[_Asked]) -> list[Ranked]:
        if any(one.search.vector_stores for one in asked):
            known = self._follower.library.deletions
            self._follower.catch_deletions()
            if self._follower.library.deletions != known:
                self._nudge()  # what takes the place of the deleted should come soon
        jobs = [self._job(one) for one in asked]
        return rank(jobs, self._remembering, self._settings.candidates)

    def _job(self, asked: _Asked) -> Job:
        search = asked.search
        places = [
            Place(shelf, asked.keep, Weights.of(search.weights or state.ranking or None))
            for state in self._states(search)
            if (shelf := self._shelf(state)) is not None
        ]
        if asked.inline is not None:
            places.append(Place(asked.inline, weights=Weights.of(search.weights)))
        query = search.query[-MAX_QUERY_CHARS:]  # the question stands last
        depth = self._refiner.depth(search)
        return Job(query, depth, tuple(places), search.score_threshold)

    def _states(self, search: Search) -> list[StoreState]:
        """The tenant's own stores.

        Raises:
            NotFound: the tenant has no such store.
        """
        library = self._follower.library
        wanted = tuple(dict.fromkeys(search.vector_stores))
        for store in wanted:
            if not library.owns(search.tenant, store):
                raise unknown_store(store)
        return [library.stores[store] for store in wanted]

    def _shelf(self, state: StoreState) -> Shelf | None:
        """None if there is nothing to search.

        Raises:
            RetrievalFailed: the store was embedded with another model.
        """
        if self._is_expired(state):
            return None
        if state.embedder not in (None, self.embedder.name):
            raise RetrievalFailed(
                f"Vector store '{state.id}' was embedded with '{state.embedder}', and this "
                f"retriever has '{self.embedder.name}': ingest its files again."
            )
        return self._follower.library.shelves.get(state.id)

    def _is_expired(self, state: StoreState) -> bool:
        """A store that was used lately may have got more time, which is not a change that is
        followed: so SQL is asked once more before a store counts as expired."""
        if state.expires_at is None or self._clock() < state.expires_at:
            return False
        now = store_state(self._db, state.id)
        if now is None or now.deleted:
            return True
        self._follower.library.stores[state.id] = replace(state, expires_at=now.expires_at)
        return now.expires_at is not None and self._clock() >= now.expires_at

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
