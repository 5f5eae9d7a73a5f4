"""The seam to retrieval: one call per request. In one process it is the object itself, in a
cluster the same methods over a Ray handle (`deployments/`); the request path cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.types import Found, Search


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

    async def refresh(self) -> int:
        """Follows SQL up to its newest row; returns that `seq`. After it, a search sees all."""
        ...

    async def ready(self) -> bool: ...
