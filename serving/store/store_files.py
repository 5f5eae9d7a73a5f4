"""The files in vector stores, as in OpenAI's API.

A file in a store goes `in_progress → completed | failed | cancelled`; its chunks appear with
`completed`, in the same transaction. Every change a retriever must see takes a number of the
sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from serving.errors import Conflict
from serving.store.chunks import CONTENT
from serving.store.database import Database
from serving.store.drafts import Draft, NewChunk, delete_chunks, publish, unwritten
from serving.store.models import (
    ChunkContentRow,
    ChunkRow,
    FileRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from serving.store.pages import FIRST, Page, Window, page
from serving.store.scope import (
    find_live_store,
    find_store,
    find_store_file,
    is_past,
    unknown_file,
)
from serving.store.sequence import advance
from serving.types import TenantId, VectorStoreId


class FileStatus(StrEnum):
    """Where a file in a store is on its way."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class NewStoreFile:
    """A file to be put into a store. `chunking` is OpenAI's strategy; None: Engram's own."""

    file_id: str
    attributes: Mapping[str, Any] | None = None
    chunking: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class VectorStoreFile:
    """`replaces`: once completed, it takes the place of others of the same filename."""

    id: str  # of the file
    tenant: TenantId
    vector_store: VectorStoreId
    filename: str
    sha256: str
    bytes: int
    status: FileStatus
    last_error: str | None
    chunks: int
    attributes: Mapping[str, Any]
    replaces: bool
    created_at: int
    error_code: str | None = None
    chunking: Mapping[str, Any] | None = None
    batch: str | None = None


class StoreFiles:
    """What happens to a file in a store, from attaching it to taking it out."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def attach(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        chunking: Mapping[str, Any] | None = None,
        replaces: bool = False,
    ) -> VectorStoreFile:
        """Puts an uploaded file in the store, to be ingested; see `attach_all`."""
        new = NewStoreFile(file_id, attributes, chunking)
        with self._db.session() as session:
            now = self._clock()
            [row] = attach_all(session, tenant, store_id, [new], now, replaces=replaces)
            return store_file(row)

    def file(self, tenant: TenantId, store_id: VectorStoreId, file_id: str) -> VectorStoreFile:
        with self._db.snapshot() as session:
            return store_file(find_store_file(session, tenant, store_id, file_id))

    def files(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        window: Window = FIRST,
        status: FileStatus | None = None,
    ) -> Page[VectorStoreFile]:
        with self._db.snapshot() as session:
            find_store(session, tenant, store_id)
            return list_files(session, window, status, VectorStoreFileRow.store == store_id)

    def text(
        self, tenant: TenantId, store_id: VectorStoreId, file_id: str
    ) -> tuple[VectorStoreFile, tuple[str, ...]]:
        """The file, and what was read from it in pieces; what two chunks share is said once."""
        query = (
            select(ChunkContentRow.text, ChunkContentRow.start, ChunkContentRow.end)
            .join(ChunkRow, CONTENT)
            .where(ChunkRow.store == store_id, ChunkRow.file == file_id)
            .where(ChunkRow.deleted_seq.is_(None))
            .order_by(ChunkRow.seq)
        )
        with self._db.snapshot() as session:
            file = store_file(find_store_file(session, tenant, store_id, file_id))
            pieces, said = list[str](), 0
            for text, start, end in session.execute(query):
                overlap = max(0, said - start) if len(text) == end - start else 0
                pieces.append(text[overlap:])
                said = max(said, end)
        return file, tuple(piece for piece in pieces if piece)

    def named(
        self, tenant: TenantId, store_id: VectorStoreId, filename: str
    ) -> tuple[VectorStoreFile, ...]:
        """The files of that name in the store, newest first."""
        with self._db.snapshot() as session:
            find_store(session, tenant, store_id)
            rows = session.scalars(
                select(VectorStoreFileRow)
                .where(
                    VectorStoreFileRow.store == store_id, VectorStoreFileRow.filename == filename
                )
                .order_by(VectorStoreFileRow.seq.desc())
            )
            return tuple(map(store_file, rows))

    def set_attributes(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        attributes: Mapping[str, Any],
    ) -> VectorStoreFile:
        with self._db.session() as session:
            row = find_store_file(session, tenant, store_id, file_id)
            row.seq, row.attributes = advance(session), dict(attributes)
            return store_file(row)

    def complete(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        embedder: str,
        chunks: Iterable[NewChunk],
    ) -> VectorStoreFile:
        """Makes a file's chunks visible, and in the same moment hides those they replace.

        A file that was cancelled meanwhile stays so.

        Raises:
            NotFound: the file or the store was deleted meanwhile.
            Conflict: the store's other files were embedded with another model.
        """
        with self._db.session() as session:
            seq = advance(session)  # first, so that no other writer changes what is read below
            row = find_store_file(session, tenant, store_id, file_id)
            if row.status != FileStatus.CANCELLED:
                complete_file(session, row, seq, embedder, unwritten(chunks))
            return store_file(row)

    def fail(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        reason: str,
        code: str = "invalid_file",
    ) -> VectorStoreFile:
        """Ends a file's way with a reason that its owner can read, and one of OpenAI's codes."""
        with self._db.session() as session:
            row = find_store_file(session, tenant, store_id, file_id)
            if row.status != FileStatus.CANCELLED:
                fail_file(row, code, reason)
            return store_file(row)

    def remove_file(self, tenant: TenantId, store_id: VectorStoreId, file_id: str) -> None:
        """Takes a file out of the store; it stays uploaded."""
        with self._db.session() as session:
            row = find_store_file(session, tenant, store_id, file_id)
            _remove(session, row)


def attach_all(
    session: Session,
    tenant: TenantId,
    store_id: VectorStoreId,
    files: Sequence[NewStoreFile],
    now: float,
    *,
    batch: str | None = None,
    replaces: bool = False,
) -> list[VectorStoreFileRow]:
    """Puts uploaded files in a store, to be ingested; counts as using the store.

    A file that is there already keeps what is not given, and is ingested again only if it failed,
    was cancelled or is to be cut in another way.

    Raises:
        NotFound: the store or one of the files is unknown to the tenant; then none is attached.
        InvalidRequest: the store has expired.
    """
    new = {file.file_id: file for file in files}
    seq = advance(session, len(new)) - len(new)  # first: other writers wait from here on
    store = find_live_store(session, tenant, store_id, now)
    uploaded = _uploaded(session, tenant, [*new], now)
    there = _attached(session, store_id, [*new])
    rows = []
    for number, file in enumerate(new.values(), 1):
        row = there.get(file.file_id)
        if row is None:
            row = _new_row(store, uploaded[file.file_id], file, replaces)
            row.seq, row.created_at = seq + number, int(now)
            session.add(row)
        else:
            _attach_again(row, file, seq + number)
        row.batch = batch or row.batch
        rows.append(row)
    store.last_active_at = int(now)
    return rows


def complete_file(
    session: Session,
    row: VectorStoreFileRow,
    seq: int,
    embedder: str,
    draft: Draft,
) -> None:
    """Completes a file within a transaction that has taken `seq`; see `StoreFiles.complete`."""
    tenant, store_id = TenantId(row.tenant), VectorStoreId(row.store)
    _claim(find_store(session, tenant, store_id), embedder, seq)
    delete_chunks(session, ChunkRow.store == row.store, ChunkRow.file == row.file)
    if row.replaces:
        _remove_replaced(session, row)
    row.seq, row.claimed_until = seq, None
    row.status, row.last_error, row.error_code = FileStatus.COMPLETED, None, None
    row.chunks = publish(session, draft, row)


def fail_file(row: VectorStoreFileRow, code: str, reason: str) -> None:
    """Ends a file's way; `code` is one of OpenAI's, `reason` is for its owner."""
    row.status, row.error_code, row.last_error = FileStatus.FAILED, code, reason
    row.claimed_until = None


def list_files(
    session: Session, window: Window, status: FileStatus | None, *scope: ColumnElement[bool]
) -> Page[VectorStoreFile]:
    """Files of one store or batch, which `scope` says."""
    narrowed = [] if status is None else [VectorStoreFileRow.status == status]
    query = select(VectorStoreFileRow).where(*scope)
    created_at, id = VectorStoreFileRow.created_at, VectorStoreFileRow.file
    rows = page(session, query, window, created_at, id, *narrowed)
    return Page(tuple(map(store_file, rows.items)), rows.has_more)


def store_file(row: VectorStoreFileRow) -> VectorStoreFile:
    return VectorStoreFile(
        row.file,
        TenantId(row.tenant),
        VectorStoreId(row.store),
        row.filename,
        row.sha256,
        row.bytes,
        FileStatus(row.status),
        row.last_error,
        row.chunks,
        dict(row.attributes),
        row.replaces,
        row.created_at,
        row.error_code,
        row.chunking,
        row.batch,
    )


def _uploaded(
    session: Session, tenant: str, file_ids: Sequence[str], now: float
) -> dict[str, FileRow]:
    query = select(FileRow).where(FileRow.id.in_(file_ids), FileRow.tenant == tenant)
    found = {row.id: row for row in session.scalars(query) if not is_past(row.expires_at, now)}
    for file_id in file_ids:
        if file_id not in found:
            raise unknown_file(file_id)
    return found


def _attached(
    session: Session, store_id: VectorStoreId, file_ids: Sequence[str]
) -> dict[str, VectorStoreFileRow]:
    query = select(VectorStoreFileRow).where(
        VectorStoreFileRow.store == store_id, VectorStoreFileRow.file.in_(file_ids)
    )
    return {row.file: row for row in session.scalars(query)}


def _new_row(
    store: VectorStoreRow, file: FileRow, new: NewStoreFile, replaces: bool
) -> VectorStoreFileRow:
    return VectorStoreFileRow(
        store=store.id,
        file=file.id,
        tenant=store.tenant,
        filename=file.filename,
        sha256=file.sha256,
        bytes=file.bytes,
        status=FileStatus.IN_PROGRESS,
        chunks=0,
        attempts=0,
        claims=0,
        attributes=dict(new.attributes or {}),
        chunking=new.chunking,
        replaces=replaces,
    )


def _attach_again(row: VectorStoreFileRow, new: NewStoreFile, seq: int) -> None:
    if new.attributes is not None and dict(new.attributes) != row.attributes:
        row.attributes, row.seq = dict(new.attributes), seq
    cut_anew = new.chunking is not None and new.chunking != row.chunking
    if cut_anew:
        row.chunking = dict(new.chunking or {})
    if cut_anew or row.status in (FileStatus.FAILED, FileStatus.CANCELLED):
        row.attempts = 0  # a worker that may still have it is fenced by the number of its claim
        row.status, row.last_error, row.error_code = FileStatus.IN_PROGRESS, None, None
        row.claimed_until = None


def _claim(store: VectorStoreRow, embedder: str, seq: int) -> None:
    if store.embedder is None:
        store.embedder, store.seq = embedder, seq
    elif store.embedder != embedder:
        raise Conflict(
            f"The vector store was embedded with '{store.embedder}', this file with '{embedder}'."
        )


def _remove_replaced(session: Session, row: VectorStoreFileRow) -> None:
    """Whatever of this filename is ready, or was attached before and would be ready later."""
    others = session.scalars(
        select(VectorStoreFileRow).where(
            VectorStoreFileRow.store == row.store,
            VectorStoreFileRow.filename == row.filename,
            VectorStoreFileRow.file != row.file,
            or_(
                VectorStoreFileRow.status == FileStatus.COMPLETED,
                VectorStoreFileRow.seq < row.seq,
            ),
        )
    )
    for other in others.all():
        _remove(session, other)


def _remove(session: Session, row: VectorStoreFileRow) -> None:
    delete_chunks(session, ChunkRow.store == row.store, ChunkRow.file == row.file)
    session.delete(row)
