"""The retriever replica: a `LocalRetriever` that lives as long as its Ray actor, forwarded."""

from __future__ import annotations

from collections.abc import Sequence

from serving.app import create_retriever
from serving.errors import RetrievalFailed
from serving.retrieval.shard import Shard
from serving.settings import Settings
from serving.telemetry import note_process
from serving.types import Found, Search


class RetrieverReplica:
    # Serve awaits an async constructor, and an async `__del__` before it ends the actor.
    async def __init__(self, settings: Settings, shard: Shard) -> None:  # type: ignore[misc]
        self._retriever = create_retriever(settings, shard)
        await self._retriever.__aenter__()

    async def __del__(self) -> None:
        await self._retriever.__aexit__(None, None, None)

    async def check_health(self) -> None:
        note_process("retriever")
        if not await self._retriever.ready():
            raise RetrievalFailed("The retriever is not ready.")

    async def search(self, search: Search) -> Found:
        return await self._retriever.search(search)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._retriever.embed(texts)

    async def refresh(self) -> int:
        return await self._retriever.refresh()

    async def ready(self) -> bool:
        return await self._retriever.ready()
