"""Chunks: written a file at a time, deleted with a mark, and read in the order of the sequence.

`follow` is all that a retriever replica needs to keep its indexes; `Changes` is what it gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.models import ChunkRow, VectorStoreFileRow, VectorStoreRow
from serving.store.sequence import advance, advance_deletions, newest
from serving.types import TenantId, VectorStoreId

Vector = NDArray[np.float32]
PAGE_ROWS = 2_000
WRITE_ROWS = 500


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk before it has a place in the sequence."""

    text: str
    title: str
    heading_path: tuple[str, ...]
    start: int
    end: int
    embedding: Vector


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
    id: VectorStoreId
    tenant: TenantId
    embedder: str | None
    deleted: bool
    ranking: Mapping[str, float] | None = None  # weights of the dense and the lexical ranking


@dataclass(frozen=True, slots=True)
class FileState:
    store: VectorStoreId
    file_id: str
    filename: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened up to `seq`, to be applied in the order of the fields."""

    seq: int
    stores: Sequence[StoreState] = ()
    files: Sequence[FileState] = ()
    chunks: Sequence[StoredChunk] = ()
    deleted: Sequence[tuple[VectorStoreId, int]] = field(default=())  # store and seq of the chunk


def write_chunks(
    session: Session,
    tenant: TenantId,
    store: VectorStoreId,
    file_id: str,
    chunks: Iterable[NewChunk],
) -> int:
    """Adds a file's chunks in their order, a batch at a time; returns how many they were."""
    count, rest = 0, iter(chunks)
    while batch := list(islice(rest, WRITE_ROWS)):
        first = advance(session, len(batch)) - len(batch) + 1
        session.execute(
            insert(ChunkRow),
            [
                {
                    "seq": first + n,
                    "id": f"{file_id}-{count + n}",
                    "tenant": tenant,
                    "store": store,
                    "file": file_id,
                    "text": chunk.text,
                    "title": chunk.title,
                    "heading_path": list(chunk.heading_path),
                    "start": chunk.start,
                    "end": chunk.end,
                    "embedding": chunk.embedding.astype("<f4").tobytes(),
                }
                for n, chunk in enumerate(batch)
            ],
        )
        count += len(batch)
    return count


def delete_chunks(session: Session, *where: ColumnElement[bool]) -> None:
    """Marks chunks as deleted and forgets what they said."""
    session.execute(
        update(ChunkRow)
        .where(ChunkRow.deleted_seq.is_(None), *where)
        .values(deleted_seq=advance_deletions(session), text="", embedding=b"")
    )


def remove_from_stores(session: Session, file_id: str) -> None:
    """Takes a file out of every vector store it is in."""
    delete_chunks(session, ChunkRow.file == file_id)
    session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.file == file_id))


def follow(db: Database, after: int) -> Iterator[Changes]:
    """Every change after `after`, in pages, up to the newest one when called.

    Numbers become visible in order (`sequence.py`), so nothing at or below the newest is missed.
    States of stores and files come first and as new as they are, so every chunk finds its file.
    """
    with db.snapshot() as session:
        upto = newest(session)
        if after == upto:
            return
        yield Changes(after, _stores(session, after), _files(session, after))
    while after < upto:
        with db.snapshot() as session:
            changes = _page(session, after, upto)
        yield changes
        after = changes.seq


def _page(session: Session, after: int, upto: int) -> Changes:
    chunks = _chunks(session, after, upto)
    if len(chunks) == PAGE_ROWS:
        upto = chunks[-1].seq
    return Changes(upto, chunks=chunks, deleted=_deleted(session, after, upto))


def _chunks(session: Session, after: int, upto: int) -> list[StoredChunk]:
    rows = session.scalars(
        select(ChunkRow)
        .where(ChunkRow.seq > after, ChunkRow.seq <= upto, ChunkRow.deleted_seq.is_(None))
        .order_by(ChunkRow.seq)
        .limit(PAGE_ROWS)
    )
    return [_chunk(row) for row in rows]


def _chunk(row: ChunkRow) -> StoredChunk:
    return StoredChunk(
        row.seq,
        row.id,
        VectorStoreId(row.store),
        row.file,
        row.text,
        row.title,
        tuple(row.heading_path),
        row.start,
        row.end,
        np.frombuffer(row.embedding, dtype="<f4"),
    )


def _deleted(session: Session, after: int, upto: int) -> list[tuple[VectorStoreId, int]]:
    rows = session.execute(
        select(ChunkRow.store, ChunkRow.seq).where(
            ChunkRow.deleted_seq > after, ChunkRow.deleted_seq <= upto
        )
    )
    return [(VectorStoreId(store), seq) for store, seq in rows]


def _stores(session: Session, after: int) -> list[StoreState]:
    rows = session.scalars(select(VectorStoreRow).where(VectorStoreRow.seq > after))
    return [
        StoreState(
            VectorStoreId(row.id),
            TenantId(row.tenant),
            row.embedder,
            row.deleted_at is not None,
            row.ranking,
        )
        for row in rows
    ]


def _files(session: Session, after: int) -> list[FileState]:
    rows = session.scalars(select(VectorStoreFileRow).where(VectorStoreFileRow.seq > after))
    return [
        FileState(VectorStoreId(row.store), row.file, row.filename, dict(row.attributes))
        for row in rows
    ]
