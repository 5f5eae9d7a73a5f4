"""The seam to retrieval: one call per request. In one process it is the object itself, in a
cluster the same methods over a Ray handle (`deployments/`); the request path cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.types import Found, Search, TenantId, VectorStoreId


class Retriever(Protocol):
    async def search(self, search: Search) -> Found:
        """The best passages among the tenant's own stores and the inline documents.

        Raises:
            RetrievalFailed: the embedder or an index failed.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit vectors, one per text, in order."""
        ...

    async def ingest(self, tenant: TenantId, store: VectorStoreId, file_id: str) -> None:
        """Parses, embeds and stores a file attached to a store; how it ended is in its row.

        This replica's next search sees it, the others' within `poll_interval_s`.
        """
        ...

    async def refresh(self) -> int:
        """Follows SQL up to its newest row; returns that `seq`. After it, a search sees all."""
        ...

    async def ready(self) -> bool: ...
