"""Decides when a vector store has outgrown one retriever shard. Once split, a store stays so."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.models import VectorStoreFileRow, VectorStoreRow
from serving.store.sequence import advance
from serving.types import VectorStoreId


def split_if_large(db: Database, store: VectorStoreId, above: int) -> bool:
    """Spreads the store over all shards if it has more chunks than `above`; True if it was now.

    For whoever has just put a file in, after its commit. `above` is 0 where nothing is split
    (`RetrievalSettings.split_above`). The shards see the change in the sequence.
    """
    if above == 0:
        return False
    with db.snapshot() as session:
        if not _is_whole(session, store) or _chunks(session, store) <= above:
            return False
    with db.session() as session:
        seq = advance(session)  # first: from here on no other writer changes the row
        row = session.get_one(VectorStoreRow, store)
        if row.split:
            return False
        row.split, row.seq = True, seq
        return True


def _is_whole(session: Session, store: VectorStoreId) -> bool:
    query = select(VectorStoreRow.split).where(
        VectorStoreRow.id == store, VectorStoreRow.deleted_at.is_(None)
    )
    return session.execute(query).scalar_one_or_none() is False


def _chunks(session: Session, store: VectorStoreId) -> int:
    """By the rows of its files, which are a thousand times fewer than its chunks."""
    query = select(func.sum(VectorStoreFileRow.chunks)).where(VectorStoreFileRow.store == store)
    return int(session.execute(query).scalar_one() or 0)
