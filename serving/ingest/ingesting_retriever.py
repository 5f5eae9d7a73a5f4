"""The retriever with its ingest: the embedder is here, so files are embedded here too."""

from __future__ import annotations

import asyncio
from typing import Self

from serving.ingest.pipeline import Pipeline
from serving.retrieval.embedder import Embedder
from serving.retrieval.local_retriever import LocalRetriever
from serving.settings import RetrievalSettings
from serving.store.database import Database
from serving.store.files import Files
from serving.store.objects import ObjectStore
from serving.store.vector_stores import VectorStores
from serving.types import TenantId, VectorStoreId


class IngestingRetriever(LocalRetriever):
    """Implements `retriever.Retriever`."""

    def __init__(
        self,
        settings: RetrievalSettings,
        db: Database,
        objects: ObjectStore,
        embedder: Embedder | None = None,
    ) -> None:
        super().__init__(settings, db, embedder)
        self._files = Files(db, objects)
        self._vector_stores = VectorStores(db)
        self._chunk_tokens = settings.chunk_tokens
        self._resuming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._resuming = asyncio.create_task(self._resume(), name="engram-resume")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._resuming is not None:
            await asyncio.wait([self._resuming])
        await super().__aexit__(*exc)

    @property
    def pipeline(self) -> Pipeline:
        """Only once the retriever has started, since it shares the model."""
        return Pipeline(self._files, self._vector_stores, self.embedder, self._chunk_tokens)

    async def ingest(self, tenant: TenantId, store: VectorStoreId, file_id: str) -> None:
        await asyncio.to_thread(self.pipeline.process, tenant, store, file_id)
        await self.refresh()

    async def _resume(self) -> None:
        """Ends what a killed replica had begun; searches need not wait for it."""
        if await asyncio.to_thread(self.pipeline.resume):
            await self.refresh()
