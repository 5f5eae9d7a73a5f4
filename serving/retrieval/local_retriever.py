"""The retriever itself: indexes built from SQL, kept current by following its sequence."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from serving.errors import InvalidRequest, RetrievalFailed
from serving.retrieval.chunker import chunk, parse_plain, searchable
from serving.retrieval.embedder import Embedder, HashingEmbedder, RememberingEmbedder
from serving.retrieval.filters import compile_filter
from serving.retrieval.fusion import Weights
from serving.retrieval.hybrid import Job, Place, Ranked, rank
from serving.retrieval.index import ExactIndex
from serving.retrieval.index_kinds import create_index
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.owner_thread import OwnerThread
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import create_reranker
from serving.retrieval.shelf import Shelf, ShelfFile
from serving.retrieval.tantivy_lexical import TantivyLexical, stems
from serving.settings import RetrievalSettings
from serving.store.chunks import Changes, StoredChunk, StoreState, follow
from serving.store.database import Database
from serving.store.vector_stores import unknown_store
from serving.types import Document, Found, Passage, Search, VectorStoreId

log = logging.getLogger(__name__)
REMEMBERED_TEXTS = 4096
MAX_INLINE_CHUNKS = 256
MAX_QUERY_CHARS = 8192


def create_embedder(settings: RetrievalSettings) -> Embedder:
    """The model that the settings name; the heavy import happens only for the real one."""
    if settings.embedder == "hashing":
        return HashingEmbedder()
    from serving.retrieval.minilm_embedder import MiniLmEmbedder

    return MiniLmEmbedder(settings.threads)


class LocalRetriever:
    """Implements `retriever.Retriever`. Entering it builds the indexes and starts following."""

    def __init__(
        self, settings: RetrievalSettings, db: Database, embedder: Embedder | None = None
    ) -> None:
        self._settings = settings
        self._db = db
        self._embedder = embedder
        self._remembering: Embedder
        self._refiner = Refiner()
        self._owner = OwnerThread[Job, Ranked](
            self._rank, "engram-retriever", settings.max_batch, settings.max_queued
        )
        self._stores: dict[VectorStoreId, StoreState] = {}
        self._shelves: dict[VectorStoreId, Shelf] = {}
        self._following = threading.Lock()
        self._seq = 0
        self._stopped = False
        self._poll: asyncio.Task[None] | None = None

    @property
    def embedder(self) -> Embedder:
        """The model, for whoever embeds beside the retriever; loaded on entering."""
        if self._embedder is None:
            raise RetrievalFailed("The retriever has not started.")
        return self._embedder

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._load)
        self._owner.start()
        await self.refresh()
        self._poll = asyncio.create_task(self._follow_for_ever(), name="engram-follow")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.wait([self._poll])
        await asyncio.to_thread(self._stop)
        if self._refiner.reranker is not None:
            await self._refiner.reranker.close()

    def _stop(self) -> None:
        with self._following:  # a cancelled refresh still runs in its thread
            self._stopped = True
        self._owner.stop()

    def _load(self) -> None:
        if self._embedder is None:
            self._embedder = create_embedder(self._settings)
        self._remembering = RememberingEmbedder(self._embedder, REMEMBERED_TEXTS)
        settings = self._settings
        self._refiner = Refiner(
            create_reranker(settings), settings.rerank_candidates, settings.rerank_timeout_s
        )

    async def ready(self) -> bool:
        return self._poll is not None and not self._poll.done()

    async def search(self, search: Search) -> Found:
        keep = compile_filter(search.filters) if search.filters else None
        places = [
            Place(shelf, keep, Weights.of(search.weights or ranking or None))
            for shelf, ranking in await self._shelves_of(search)
        ]
        if search.documents:
            shelf = await asyncio.to_thread(self._inline, search.documents)
            places.append(Place(shelf, weights=Weights.of(search.weights)))
        query = search.query[-MAX_QUERY_CHARS:]  # the question stands last
        depth = self._refiner.depth(search)
        ranked = await self._owner.submit(Job(query, depth, tuple(places), search.score_threshold))
        return await self._refiner.refine(ranked, search)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors = await asyncio.to_thread(self.embedder.embed, texts)
        return [[float(x) for x in vector] for vector in vectors]

    async def refresh(self) -> int:
        return await asyncio.to_thread(self._follow)

    def _rank(self, jobs: Sequence[Job]) -> list[Ranked]:
        return rank(jobs, self._remembering, self._settings.candidates)

    async def _shelves_of(self, search: Search) -> list[tuple[Shelf, Mapping[str, float] | None]]:
        """The tenant's own shelves with their weights; looks once more in SQL before it says that
        one is missing."""
        wanted = tuple(dict.fromkeys(search.vector_stores))
        if not all(self._is_known(search, store) for store in wanted):
            await self.refresh()
        for store in wanted:
            if not self._is_known(search, store):
                raise unknown_store(store)
        return [
            (self._shelf(store), self._stores[store].ranking)
            for store in wanted
            if store in self._shelves
        ]

    def _is_known(self, search: Search, store: VectorStoreId) -> bool:
        state = self._stores.get(store)
        return state is not None and state.tenant == search.tenant

    def _shelf(self, store: VectorStoreId) -> Shelf:
        embedder = self._stores[store].embedder
        if embedder not in (None, self.embedder.name):
            raise RetrievalFailed(
                f"Vector store '{store}' was embedded with '{embedder}', and this retriever has "
                f"'{self.embedder.name}': ingest its files again."
            )
        return self._shelves[store]

    def _inline(self, documents: Sequence[Document]) -> Shelf:
        """A shelf for one request."""
        shelf = Shelf(ExactIndex(self.embedder.dim), ExactLexical(stems))
        passages = dict(enumerate(p for document in documents for p in self._cut(document)))
        if len(passages) > MAX_INLINE_CHUNKS:
            raise InvalidRequest(
                f"The documents make {len(passages)} chunks; at most {MAX_INLINE_CHUNKS} are "
                "searched inside a request. Put them in a vector store.",
                param="documents",
            )
        if passages:
            texts = [searchable(p.heading_path, p.text) for p in passages.values()]
            shelf.add_words(passages)
            shelf.add(passages, self._remembering.embed(texts))
        return shelf

    def _cut(self, document: Document) -> list[Passage]:
        title = document.title or document.id
        chunks = chunk(parse_plain(document.text, title), self._settings.chunk_tokens)
        return [
            Passage(
                id=f"{document.id}-{n}",
                text=piece.text,
                filename=title,
                file_id=document.id,
                title=piece.title,
                heading_path=piece.heading_path,
                start=piece.start,
                end=piece.end,
            )
            for n, piece in enumerate(chunks)
        ]

    async def _follow_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_interval_s)
            try:
                await self.refresh()
            except SQLAlchemyError:
                log.exception("cannot follow SQL; searches go on with what is known")

    def _follow(self) -> int:
        with self._following:
            if self._stopped:
                return self._seq
            for changes in follow(self._db, self._seq):
                self._apply(changes)
                self._seq = changes.seq
            return self._seq

    def _apply(self, changes: Changes) -> None:
        """Words first and away last, off the owner thread, which no search then waits for."""
        self._owner.call(lambda: self._apply_states(changes))
        for store, chunks in _by_store(changes.chunks).items():
            self._add(self._shelves[store], chunks)
        removed: dict[VectorStoreId, list[int]] = defaultdict(list)
        for store, key in changes.deleted:
            removed[store].append(key)
        for store, keys in removed.items():
            if store in self._shelves:
                self._remove(self._shelves[store], keys)

    def _apply_states(self, changes: Changes) -> None:
        for state in changes.stores:
            if state.deleted:
                self._stores.pop(state.id, None)
                self._shelves.pop(state.id, None)
            else:
                self._stores[state.id] = state
        for file in changes.files:
            shelf = self._shelves.get(file.store)
            if shelf is None:
                shelf = self._shelves[file.store] = self._new_shelf()
            shelf.put_file(file.file_id, ShelfFile(file.filename, file.attributes))

    def _new_shelf(self) -> Shelf:
        index = create_index(self.embedder.dim, self._settings)
        return Shelf(index, TantivyLexical())

    def _add(self, shelf: Shelf, chunks: list[StoredChunk]) -> None:
        chunks = [c for c in chunks if len(c.embedding) == self.embedder.dim]
        passages = {c.seq: _passage(c, shelf.file(c.file_id).name) for c in chunks}
        if passages:
            vectors = np.stack([c.embedding for c in chunks])
            shelf.add_words(passages)
            self._owner.call(lambda: shelf.add(passages, vectors))

    def _remove(self, shelf: Shelf, keys: list[int]) -> None:
        self._owner.call(lambda: shelf.remove(keys))
        shelf.remove_words(keys)


def _by_store(chunks: Sequence[StoredChunk]) -> dict[VectorStoreId, list[StoredChunk]]:
    grouped: dict[VectorStoreId, list[StoredChunk]] = defaultdict(list)
    for piece in chunks:
        grouped[piece.store].append(piece)
    return grouped


def _passage(piece: StoredChunk, filename: str) -> Passage:
    return Passage(
        id=piece.id,
        text=piece.text,
        filename=filename,
        file_id=piece.file_id,
        title=piece.title,
        heading_path=piece.heading_path,
        start=piece.start,
        end=piece.end,
    )
