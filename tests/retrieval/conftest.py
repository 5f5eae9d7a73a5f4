"""A tiny company's documents in SQL, and retrievers over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.ingest.pipeline import Pipeline
from serving.ingest.worker import IngestWorker
from serving.retrieval.embedder import Embedder, HashingEmbedder
from serving.retrieval.local_retriever import LocalRetriever
from serving.settings import IngestSettings, RetrievalSettings
from serving.store.database import Database
from serving.store.files import Files
from serving.store.keys import Keys
from serving.store.objects import FolderObjects
from serving.store.vector_stores import VectorStores
from serving.types import Search, TenantId, VectorStoreId

ACME = TenantId("acme")
OTHER = TenantId("other")
NEVER_S = 1e6
LEAVE = b"""# Leave

## Annual leave

Every employee has 30 days of paid annual leave. Days that are left may be carried over until March.

## Parental leave

Parental leave must be asked for 70 days before it starts. Nadia Sato answers questions about it.
"""
CANTEEN = b"""# Canteen

## Opening hours

The canteen opens at noon and closes at two. On Fridays there is fish.
"""


@dataclass(frozen=True)
class World:
    """One database with a store of each tenant. Retrievers follow only when told."""

    url: str
    db: Database
    objects: FolderObjects
    store: VectorStoreId
    other_store: VectorStoreId

    @property
    def stores(self) -> VectorStores:
        return VectorStores(self.db)

    @property
    def files(self) -> Files:
        return Files(self.db, self.objects)

    def pipeline(self, embedder: Embedder | None = None) -> Pipeline:
        return Pipeline(self.files, self.stores, embedder or HashingEmbedder(), chunk_tokens=96)

    def worker(self, embedder: Embedder | None = None, **settings: float) -> IngestWorker:
        ingest = IngestSettings(**{"poll_interval_s": 0.01} | settings)
        retrieval = RetrievalSettings(embedder="hashing")
        return IngestWorker(ingest, retrieval, self.db, self.objects, embedder)

    def retriever(self, embedder: Embedder | None = None) -> LocalRetriever:
        settings = RetrievalSettings(embedder="hashing", poll_interval_s=NEVER_S)
        return LocalRetriever(settings, self.db, embedder)

    def search(self, query: str, limit: int = 3, **others: object) -> Search:
        fields = {"tenant": ACME, "vector_stores": (self.store,)} | others
        return Search(query=query, limit=limit, **fields)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from make_world(tmp_path)


def make_world(folder: Path) -> Iterator[World]:
    url = f"sqlite:///{folder / 'engram.sqlite'}"
    db = Database(url)
    db.migrate()
    for tenant in (ACME, OTHER):
        Keys(db).ensure_tenant(tenant)
    stores = [VectorStores(db).create(tenant, "docs").id for tenant in (ACME, OTHER)]
    yield World(url, db, FolderObjects(folder / "objects"), *stores)
    db.close()
