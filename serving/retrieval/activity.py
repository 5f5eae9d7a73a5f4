"""A retriever that notes which vector stores were searched, so that they do not expire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from serving.retrieval.retriever import Retriever
from serving.store.cache import RecentlyRead
from serving.store.vector_stores import ACTIVITY_S
from serving.types import Found, Search, VectorStoreId

log = logging.getLogger(__name__)
Touch = Callable[[Sequence[VectorStoreId]], None]


class NotingRetriever:
    """Implements `Retriever`. A store is noted at most once a minute, behind the search."""

    def __init__(
        self, retriever: Retriever, touch: Touch, clock: Callable[[], float] = monotonic
    ) -> None:
        self._retriever = retriever
        self._touch = touch
        self._noted: RecentlyRead[VectorStoreId, bool] = RecentlyRead(ACTIVITY_S, clock)
        self._writing: set[asyncio.Task[None]] = set()

    async def search(self, search: Search) -> Found:
        found = await self._retriever.search(search)  # raises if a store is not the tenant's
        due = [store for store in search.vector_stores if not self._noted.get(store)]
        if due:
            for store in due:
                self._noted.put(store, True)
            writing = asyncio.create_task(asyncio.to_thread(self._touch, due))
            self._writing.add(writing)
            writing.add_done_callback(self._written)
        return found

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._retriever.embed(texts)

    async def refresh(self) -> int:
        return await self._retriever.refresh()

    async def ready(self) -> bool:
        return await self._retriever.ready()

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and writing.exception() is not None:
            log.error("could not note that stores are in use", exc_info=writing.exception())
