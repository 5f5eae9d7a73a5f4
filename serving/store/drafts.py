"""Writes a file's chunks and deletes them: what they say in many small transactions that nobody
sees, their places in the sequence in one.

What a chunk says waits in a draft. Publishing gives every chunk a number and its row, which is
small; so other writers wait for that alone, however long the file is. A draft whose writer was
killed is swept away.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Text,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.orm import Session

from serving.store.database import Database
from serving.store.models import ChunkContentRow, ChunkRow, DraftRow, VectorStoreFileRow
from serving.store.sequence import advance, note_deletion

Vector = NDArray[np.float32]
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
class Draft:
    """`written` chunks are in SQL under `id`; the `rest` is written when it is published."""

    id: int
    written: int
    rest: Iterable[NewChunk]


class DraftLost(Exception):
    """It was swept away, since its writer seemed to be dead."""


def unwritten(chunks: Iterable[NewChunk]) -> Draft:
    """For whoever publishes at once."""
    return Draft(_new_id(), 0, chunks)


def write_draft(
    db: Database, store: str, file_id: str, claim: int, chunks: Iterable[NewChunk]
) -> Draft:
    """Writes all but the last few chunks, a transaction for each batch."""
    draft, written, batches = _new_id(), 0, _batches(chunks)
    batch = next(batches, [])
    for following in batches:
        with db.session() as session:
            if written == 0:
                session.add(DraftRow(id=draft, store=store, file=file_id, claim=claim))
                session.flush()
            _write(session, draft, written, batch)
        written += len(batch)
        batch = following
    return Draft(draft, written, batch)


def publish(session: Session, draft: Draft, file: VectorStoreFileRow) -> int:
    """Makes the chunks those of the file, visible with this transaction; returns how many.

    Raises:
        DraftLost: some of it is gone.
    """
    count = draft.written
    for batch in _batches(draft.rest):
        _write(session, draft.id, count, batch)
        count += len(batch)
    session.execute(delete(DraftRow).where(DraftRow.id == draft.id))
    first = advance(session, count) - count + 1
    content = ChunkContentRow
    places = select(
        content.number + first,
        literal(f"{file.file}-") + cast(content.number, Text),
        literal(file.tenant),
        literal(file.store),
        literal(file.file),
        content.draft,
        content.number,
    ).where(content.draft == draft.id)
    columns = ["seq", "id", "tenant", "store", "file", "draft", "number"]
    session.execute(insert(ChunkRow).from_select(columns, places))
    there = select(func.count()).select_from(content).where(content.draft == draft.id)
    if session.scalar(there) != count:
        raise DraftLost
    return count


def discard(db: Database, draft: int) -> None:
    """Removes a draft that was not published, a batch in a transaction."""
    while True:
        with db.session() as session:
            if session.get(DraftRow, draft, with_for_update=True) is None:
                return  # it was published, or somebody else has removed it
            some = select(ChunkContentRow.number).where(ChunkContentRow.draft == draft)
            gone = session.execute(
                delete(ChunkContentRow)
                .where(ChunkContentRow.draft == draft)
                .where(ChunkContentRow.number.in_(some.limit(WRITE_ROWS)))
                .returning(ChunkContentRow.number)
            )
            if not gone.all():
                session.execute(delete(DraftRow).where(DraftRow.id == draft))
                return


def sweep_drafts(db: Database, now: float) -> int:
    """Discards what killed workers left; returns how many those were."""
    file = VectorStoreFileRow
    writer = exists().where(
        file.store == DraftRow.store,
        file.file == DraftRow.file,
        file.claims == DraftRow.claim,
        file.claimed_until >= now,
    )
    with db.snapshot() as session:
        left = session.scalars(select(DraftRow.id).where(~writer)).all()
    for draft in left:
        discard(db, draft)
    return len(left)


def delete_chunks(session: Session, *where: ColumnElement[bool]) -> None:
    """Marks chunks as deleted and forgets what they said; `where` takes whole files."""
    seq = advance(session)  # first, so that no chunk is written meanwhile
    deleted = session.execute(
        update(ChunkRow)
        .where(ChunkRow.deleted_seq.is_(None), *where)
        .values(deleted_seq=seq)
        .returning(ChunkRow.seq)
    )
    if deleted.first() is None:
        return
    note_deletion(session, seq)
    drafts = select(ChunkRow.draft).where(ChunkRow.deleted_seq == seq)
    session.execute(
        delete(ChunkContentRow)
        .where(ChunkContentRow.draft.in_(drafts))
        .execution_options(synchronize_session=False)
    )


def is_in_a_store(session: Session, file_id: str) -> bool:
    query = select(VectorStoreFileRow.store).where(VectorStoreFileRow.file == file_id)
    return session.scalar(query.limit(1)) is not None


def remove_from_stores(session: Session, file_id: str) -> None:
    """Takes a file out of every vector store it is in."""
    delete_chunks(session, ChunkRow.file == file_id)
    session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.file == file_id))


def _new_id() -> int:
    return secrets.randbits(62)


def _batches(chunks: Iterable[NewChunk]) -> Iterator[list[NewChunk]]:
    rest = iter(chunks)
    while batch := list(islice(rest, WRITE_ROWS)):
        yield batch


def _write(session: Session, draft: int, first: int, chunks: Iterable[NewChunk]) -> None:
    session.execute(insert(ChunkContentRow), list(_rows(draft, first, chunks)))


def _rows(draft: int, first: int, chunks: Iterable[NewChunk]) -> Iterator[dict[str, Any]]:
    for number, chunk in enumerate(chunks, first):
        yield {
            "draft": draft,
            "number": number,
            "text": chunk.text,
            "title": chunk.title,
            "heading_path": list(chunk.heading_path),
            "start": chunk.start,
            "end": chunk.end,
            "embedding": chunk.embedding.astype("<f4").tobytes(),
        }
