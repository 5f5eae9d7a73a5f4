"""Chunks as they are read: in the order of the sequence. `drafts.py` writes and deletes them.

`follow` is all that a retriever replica needs to keep its indexes; `Changes` is what it gets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.drafts import Vector
from serving.store.models import ChunkContentRow, ChunkRow, VectorStoreFileRow, VectorStoreRow
from serving.store.scope import expires_at
from serving.store.sequence import PURGED, newest
from serving.types import TenantId, VectorStoreId

PAGE_ROWS = 2_000
# What a chunk says, to be joined.
CONTENT = and_(ChunkContentRow.draft == ChunkRow.draft, ChunkContentRow.number == ChunkRow.number)

# As columns: an ORM object for each would cost more than all else that is done with a row.
_CHUNK = (
    ChunkRow.seq,
    ChunkRow.id,
    ChunkRow.store,
    ChunkRow.file,
    ChunkContentRow.text,
    ChunkContentRow.title,
    ChunkContentRow.heading_path,
    ChunkContentRow.start,
    ChunkContentRow.end,
    ChunkContentRow.embedding,
)


@dataclass(frozen=True, slots=True)
class StoredChunk:
    seq: int
    id: str
    store: VectorStoreId
    file_id: str
    text: str
    title: str
    heading_path: tuple[str, ...]
    start: int
    end: int
    embedding: Vector


@dataclass(frozen=True, slots=True)
class StoreState:
    """`expires_at` in Unix seconds; None: never."""

    id: VectorStoreId
    tenant: TenantId
    embedder: str | None
    deleted: bool
    split: bool = False
    expires_at: int | None = None
    seq: int = 0  # of its last change
    ranking: Mapping[str, float] | None = None  # weights of the dense and the lexical ranking


@dataclass(frozen=True, slots=True)
class FileState:
    store: VectorStoreId
    file_id: str
    filename: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The chunk `key` of a store was deleted by the change `seq`."""

    store: VectorStoreId
    key: int
    seq: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened up to `seq`, to be applied in the order of the fields."""

    seq: int
    stores: Sequence[StoreState] = ()
    files: Sequence[FileState] = ()
    chunks: Sequence[StoredChunk] = ()
    deleted: Sequence[Deletion] = ()


class CannotFollow(Exception):
    """What happened since is not all in SQL: start over from nothing."""


def follow(db: Database, after: int) -> Iterator[Changes]:
    """Every change after `after`, in pages, up to the newest one when called.

    Numbers become visible in order (`sequence.py`), so nothing at or below the newest is missed.
    States of stores and files come first and as new as they are, so every chunk finds its file.

    Raises:
        CannotFollow: SQL is older than `after`, as after a restore, or rows of chunks that were
            deleted since are gone. From 0, which knows no chunk, one can always follow.
    """
    with db.snapshot() as session:
        upto = newest(session)
        if after == upto:
            return
        if after > upto:
            raise CannotFollow(f"SQL is at {upto}, before {after}: it was restored")
        if after > 0:
            _check_purged(session, after)
        files = _files(session, VectorStoreFileRow.seq > after)
        yield Changes(after, _stores(session, after), files)
    while after < upto:
        with db.snapshot() as session:
            changes = _page(session, after, upto)
        yield changes
        after = changes.seq


def files_of(db: Database, store: VectorStoreId) -> Sequence[FileState]:
    """A store's files that have chunks."""
    with db.snapshot() as session:
        return _files(session, VectorStoreFileRow.store == store)


def chunks_of(db: Database, store: VectorStoreId) -> Iterator[Sequence[StoredChunk]]:
    """All that a store holds, in pages; each as it is when it is read."""
    after = 0
    while True:
        with db.snapshot() as session:
            chunks = _chunks(session, ChunkRow.seq > after, ChunkRow.store == store)
        if not chunks:
            return
        yield chunks
        after = chunks[-1].seq


def chunks_between(db: Database, after: int, upto: int) -> Iterator[Sequence[StoredChunk]]:
    """All chunks in a span of the sequence, in pages; each as it is when it is read."""
    chunks: Sequence[StoredChunk] = ()
    while after < upto:
        with db.snapshot() as session:
            chunks = _chunks(session, ChunkRow.seq > after, ChunkRow.seq <= upto)
        yield chunks
        after = chunks[-1].seq if len(chunks) == PAGE_ROWS else upto


def deleted_since(db: Database, seq: int) -> Sequence[int]:
    """The chunks up to `seq` that were deleted after it."""
    query = select(ChunkRow.seq).where(ChunkRow.deleted_seq > seq, ChunkRow.seq <= seq)
    with db.snapshot() as session:
        return session.scalars(query).all()


def split_stores(db: Database) -> frozenset[VectorStoreId]:
    """The stores that are spread over all shards."""
    row = VectorStoreRow
    with db.snapshot() as session:
        return frozenset(map(VectorStoreId, session.scalars(select(row.id).where(row.split))))


def states(db: Database) -> tuple[Sequence[StoreState], Sequence[FileState]]:
    """All stores, and all files that have chunks."""
    with db.snapshot() as session:
        return _stores(session, 0), _files(session)


def deletions(
    db: Database, after: int, upto: int
) -> tuple[Sequence[VectorStoreId], Sequence[Deletion]]:
    """The stores that were deleted after `after`, and the chunks of others up to `upto`.

    Raises:
        CannotFollow: rows of chunks that were deleted since are gone.
    """
    with db.snapshot() as session:
        _check_purged(session, after)
        gone = [state.id for state in _stores(session, after) if state.deleted]
        return gone, _deleted(session, after, upto)


def store_state(db: Database, store: VectorStoreId) -> StoreState | None:
    """As it is in SQL now."""
    with db.snapshot() as session:
        row = session.get(VectorStoreRow, store)
        return None if row is None else _state(row)


def _check_purged(session: Session, after: int) -> None:
    if after < (purged := newest(session, PURGED)):
        raise CannotFollow(f"deletions up to {purged} are forgotten, and {after} is before")


def _page(session: Session, after: int, upto: int) -> Changes:
    chunks = _chunks(session, ChunkRow.seq > after, ChunkRow.seq <= upto)
    if len(chunks) == PAGE_ROWS:
        upto = chunks[-1].seq
    return Changes(upto, chunks=chunks, deleted=_deleted(session, after, upto))


def _chunks(session: Session, *where: ColumnElement[bool]) -> list[StoredChunk]:
    rows = session.execute(
        select(*_CHUNK)
        .join(ChunkContentRow, CONTENT)
        .where(ChunkRow.deleted_seq.is_(None), *where)
        .order_by(ChunkRow.seq)
        .limit(PAGE_ROWS)
    )
    return [
        StoredChunk(
            seq,
            id,
            VectorStoreId(store),
            file_id,
            text,
            title,
            tuple(heading_path),
            start,
            end,
            np.frombuffer(embedding, dtype="<f4"),
        )
        for seq, id, store, file_id, text, title, heading_path, start, end, embedding in rows
    ]


def _deleted(session: Session, after: int, upto: int) -> list[Deletion]:
    """Without those that went with their store, whose state says it for all of them."""
    gone = select(VectorStoreRow.id).where(VectorStoreRow.deleted_at.is_not(None))
    rows = session.execute(
        select(ChunkRow.store, ChunkRow.seq, ChunkRow.deleted_seq).where(
            ChunkRow.deleted_seq > after,
            ChunkRow.deleted_seq <= upto,
            ChunkRow.store.not_in(gone),
        )
    )
    return [Deletion(VectorStoreId(store), key, seq) for store, key, seq in rows if seq is not None]


def _stores(session: Session, after: int) -> list[StoreState]:
    rows = session.scalars(select(VectorStoreRow).where(VectorStoreRow.seq > after))
    return [_state(row) for row in rows]


def _state(row: VectorStoreRow) -> StoreState:
    return StoreState(
        VectorStoreId(row.id),
        TenantId(row.tenant),
        row.embedder,
        row.deleted_at is not None,
        row.split,
        expires_at(row) if row.expired_at is None else row.expired_at,
        row.seq,
        row.ranking,
    )


def _files(session: Session, *where: ColumnElement[bool]) -> list[FileState]:
    """Of the files that have chunks: one in progress gets a newer number when it is ready."""
    row = VectorStoreFileRow
    rows = session.execute(
        select(row.store, row.file, row.filename, row.attributes).where(row.chunks > 0, *where)
    )
    return [
        FileState(VectorStoreId(store), file_id, filename, dict(attributes))
        for store, file_id, filename, attributes in rows
    ]
