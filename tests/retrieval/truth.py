"""What a search must find: exact search over the chunks that SQL has."""

from __future__ import annotations

import numpy as np

from serving.retrieval.embedder import HashingEmbedder
from serving.store.chunks import StoredChunk, follow
from serving.store.database import Database
from serving.types import Found, Search, TenantId, VectorStoreId

DENSE = {"dense": 1.0, "lexical": 0.0}
SCORE_DIGITS = 5


def chunks(db: Database) -> list[StoredChunk]:
    """All that are not deleted."""
    return [row for changes in follow(db, 0) for row in changes.chunks]


def by_meaning(
    tenant: TenantId, store: VectorStoreId, query: str, limit: int, **others: object
) -> Search:
    """A search whose order is that of the vectors alone."""
    return Search(tenant, query, (store,), limit, weights=DENSE, **others)  # type: ignore[arg-type]


def expected(db: Database, search: Search, keep: set[str] | None = None) -> list[float]:
    """The best scores there are, of the files in `keep`; equal scores may be anyone's."""
    rows = [
        row
        for row in chunks(db)
        if row.store in search.vector_stores and (keep is None or row.file_id in keep)
    ]
    if not rows:
        return []
    [query] = HashingEmbedder().embed([search.query])
    scores = np.sort(np.stack([row.embedding for row in rows]) @ query)[::-1]
    return [round(float(score), SCORE_DIGITS) for score in scores[: search.limit]]


def scores(found: Found) -> list[float]:
    return [round(passage.dense_score, SCORE_DIGITS) for passage in found.passages]


def assert_true(db: Database, search: Search, found: Found, keep: set[str] | None = None) -> None:
    """The best scores, each of a chunk that is there."""
    np.testing.assert_allclose(scores(found), expected(db, search, keep), atol=1e-4)
    assert {passage.id for passage in found.passages} <= {row.id for row in chunks(db)}
