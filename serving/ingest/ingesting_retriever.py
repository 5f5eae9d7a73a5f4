"""The retriever with its ingest: the embedder is here, so files are embedded here too."""

from __future__ import annotations

import asyncio

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

    @property
    def pipeline(self) -> Pipeline:
        """Only once the retriever has started, since it shares the model."""
        return Pipeline(self._files, self._vector_stores, self.embedder, self._chunk_tokens)

    async def ingest(self, tenant: TenantId, store: VectorStoreId, file_id: str) -> None:
        await asyncio.to_thread(self.pipeline.process, tenant, store, file_id)
        await self.refresh()
