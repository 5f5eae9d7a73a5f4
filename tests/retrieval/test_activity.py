"""Which searches are noted as the use of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.errors import NotFound
from serving.retrieval.activity import NotingRetriever
from serving.types import Search, VectorStoreId
from tests.retrieval.conftest import ACME, World


class Noted:
    """Remembers what it was told, and tells when it was."""

    def __init__(self) -> None:
        self.stores: list[str] = []
        self.loop = asyncio.get_running_loop()
        self.told = asyncio.Event()
        self.now = 0.0

    def __call__(self, stores: Sequence[VectorStoreId]) -> None:
        self.stores += stores
        self.loop.call_soon_threadsafe(self.told.set)

    async def wait(self) -> None:
        async with asyncio.timeout(60):
            await self.told.wait()
        self.told.clear()


async def test_a_store_is_noted_once_a_minute(world: World) -> None:
    noted = Noted()
    async with world.retriever() as inner:
        retriever = NotingRetriever(inner, noted, lambda: noted.now)
        question = Search(ACME, "canteen", (world.store,), 3)
        await retriever.search(question)
        await noted.wait()
        noted.now = 59.0
        await retriever.search(question)
        noted.now = 61.0
        await retriever.search(question)
        await noted.wait()
    assert noted.stores == [world.store, world.store]


async def test_a_store_that_is_not_the_tenants_is_not_noted(world: World) -> None:
    noted = Noted()
    async with world.retriever() as inner:
        retriever = NotingRetriever(inner, noted)
        with pytest.raises(NotFound):
            await retriever.search(Search(ACME, "canteen", (world.other_store,), 3))
        await retriever.search(Search(ACME, "canteen", (world.store,), 3))
        await noted.wait()
    assert noted.stores == [world.store]
