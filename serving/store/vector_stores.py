"""Vector stores and the files in them, as in OpenAI's API.

A file in a store goes `in_progress → completed | failed`; its chunks appear with `completed`, in
the same transaction. Every change a retriever must see takes a number of the sequence.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Session

from serving.errors import Conflict, NotFound
from serving.store.chunks import NewChunk, delete_chunks, write_chunks
from serving.store.database import Database
from serving.store.files import find_file
from serving.store.models import ChunkRow, TenantRow, VectorStoreFileRow, VectorStoreRow
from serving.store.pages import FIRST, Page, Window, page
from serving.store.sequence import advance
from serving.types import TenantId, VectorStoreId


class FileStatus(StrEnum):
    """Where a file in a store is on its way."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VectorStore:
    """`file_counts` by status; `metadata` is the client's own."""

    id: VectorStoreId
    tenant: TenantId
    name: str
    created_at: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    file_counts: Mapping[FileStatus, int] = field(default_factory=dict)
    usage_bytes: int = 0

    @property
    def status(self) -> FileStatus:
        busy = self.file_counts.get(FileStatus.IN_PROGRESS, 0)
        return FileStatus.IN_PROGRESS if busy else FileStatus.COMPLETED


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


class VectorStores:
    """One tenant's stores look to another as if they did not exist."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def create(
        self, tenant: TenantId, name: str, metadata: Mapping[str, Any] | None = None
    ) -> VectorStore:
        with self._db.session() as session:
            if session.get(TenantRow, tenant) is None:
                raise NotFound(f"No such tenant: '{tenant}'.")
            row = VectorStoreRow(
                id=f"vs_{secrets.token_hex(12)}",
                seq=advance(session),
                tenant=tenant,
                name=name,
                details=dict(metadata or {}),
                ranking={},
                split=False,
                last_active_at=int(self._clock()),
                created_at=int(self._clock()),
            )
            session.add(row)
            return _store(row, {}, 0)

    def get(self, tenant: TenantId, store_id: VectorStoreId) -> VectorStore:
        with self._db.snapshot() as session:
            return _with_counts(session, [find_store(session, tenant, store_id)])[0]

    def find(self, tenant: TenantId, name: str) -> VectorStore | None:
        """The tenant's newest store of that name."""
        query = select(VectorStoreRow).where(
            VectorStoreRow.tenant == tenant,
            VectorStoreRow.name == name,
            VectorStoreRow.deleted_at.is_(None),
        )
        with self._db.snapshot() as session:
            row = session.scalars(query.order_by(VectorStoreRow.seq.desc()).limit(1)).first()
            return _with_counts(session, [row])[0] if row else None

    def list(self, tenant: TenantId, window: Window = FIRST) -> Page[VectorStore]:
        query = select(VectorStoreRow).where(
            VectorStoreRow.tenant == tenant, VectorStoreRow.deleted_at.is_(None)
        )
        with self._db.snapshot() as session:
            rows = page(session, query, window, VectorStoreRow.created_at, VectorStoreRow.id)
            return Page(tuple(_with_counts(session, rows.items)), rows.has_more)

    def update(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> VectorStore:
        """Changes what is given."""
        with self._db.session() as session:
            row = find_store(session, tenant, store_id)
            if name is not None:
                row.name = name
            if metadata is not None:
                row.details = dict(metadata)
        return self.get(tenant, store_id)

    def delete(self, tenant: TenantId, store_id: VectorStoreId) -> None:
        """Deletes the store and its chunks; its files stay uploaded."""
        with self._db.session() as session:
            row = find_store(session, tenant, store_id)
            row.seq, row.deleted_at = advance(session), int(self._clock())
            delete_chunks(session, ChunkRow.store == store_id)
            session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.store == store_id))

    def attach(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        replaces: bool = False,
    ) -> VectorStoreFile:
        """Puts an uploaded file in the store, to be ingested; again changes nothing but a
        failed one's status."""
        with self._db.session() as session:
            find_store(session, tenant, store_id)
            seq = advance(session)
            row = session.get(VectorStoreFileRow, (store_id, file_id))
            if row is None:
                row = self._new_file(session, tenant, store_id, file_id, seq, replaces)
                session.add(row)
                row.attributes = dict(attributes or {})
            elif row.status == FileStatus.FAILED:
                row.status, row.last_error, row.error_code = FileStatus.IN_PROGRESS, None, None
                row.attempts, row.claimed_until = 0, None
            return _store_file(row)

    def _new_file(
        self,
        session: Session,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        seq: int,
        replaces: bool,
    ) -> VectorStoreFileRow:
        file = find_file(session, tenant, file_id)
        return VectorStoreFileRow(
            store=store_id,
            file=file_id,
            seq=seq,
            tenant=tenant,
            filename=file.filename,
            sha256=file.sha256,
            bytes=file.bytes,
            status=FileStatus.IN_PROGRESS,
            chunks=0,
            attempts=0,
            replaces=replaces,
            created_at=int(self._clock()),
        )

    def file(self, tenant: TenantId, store_id: VectorStoreId, file_id: str) -> VectorStoreFile:
        with self._db.snapshot() as session:
            return _store_file(find_store_file(session, tenant, store_id, file_id))

    def files(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        window: Window = FIRST,
        status: FileStatus | None = None,
    ) -> Page[VectorStoreFile]:
        query = select(VectorStoreFileRow).where(VectorStoreFileRow.store == store_id)
        if status is not None:
            query = query.where(VectorStoreFileRow.status == status)
        with self._db.snapshot() as session:
            find_store(session, tenant, store_id)
            created_at, id = VectorStoreFileRow.created_at, VectorStoreFileRow.file
            rows = page(session, query, window, created_at, id)
            return Page(tuple(map(_store_file, rows.items)), rows.has_more)

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
            return tuple(map(_store_file, rows))

    def unfinished(self) -> tuple[VectorStoreFile, ...]:
        """Every tenant's files in progress, for whoever resumes them after a crash."""
        query = select(VectorStoreFileRow).where(
            VectorStoreFileRow.status == FileStatus.IN_PROGRESS
        )
        with self._db.snapshot() as session:
            rows = session.scalars(query.order_by(VectorStoreFileRow.seq))
            return tuple(map(_store_file, rows))

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
            return _store_file(row)

    def complete(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        file_id: str,
        embedder: str,
        chunks: Iterable[NewChunk],
    ) -> VectorStoreFile:
        """Makes a file's chunks visible, and in the same moment hides those they replace.

        Raises:
            NotFound: the file or the store was deleted meanwhile.
            Conflict: the store's other files were embedded with another model.
        """
        with self._db.session() as session:
            seq = advance(session)  # first, so that no other writer changes what is read below
            row = find_store_file(session, tenant, store_id, file_id)
            complete_file(session, row, seq, embedder, chunks)
            return _store_file(row)

    def fail(
        self, tenant: TenantId, store_id: VectorStoreId, file_id: str, reason: str
    ) -> VectorStoreFile:
        """Ends a file's way with a reason that its owner can read."""
        with self._db.session() as session:
            row = find_store_file(session, tenant, store_id, file_id)
            fail_file(row, "invalid_file", reason)
            return _store_file(row)

    def remove_file(self, tenant: TenantId, store_id: VectorStoreId, file_id: str) -> None:
        """Takes a file out of the store; it stays uploaded."""
        with self._db.session() as session:
            row = find_store_file(session, tenant, store_id, file_id)
            _remove(session, row)


def find_store(session: Session, tenant: TenantId, store_id: VectorStoreId) -> VectorStoreRow:
    """The tenant's store, or NotFound: the same for an unknown id as for another tenant's."""
    row = session.get(VectorStoreRow, store_id)
    if row is None or row.tenant != tenant or row.deleted_at is not None:
        raise unknown_store(store_id)
    return row


def unknown_store(store_id: VectorStoreId) -> NotFound:
    return NotFound(f"No such vector store: '{store_id}'.", param="vector_store_id")


def find_store_file(
    session: Session, tenant: TenantId, store_id: VectorStoreId, file_id: str
) -> VectorStoreFileRow:
    find_store(session, tenant, store_id)
    row = session.get(VectorStoreFileRow, (store_id, file_id))
    if row is None:
        raise NotFound(f"No such file in this vector store: '{file_id}'.", param="file_id")
    return row


def complete_file(
    session: Session,
    row: VectorStoreFileRow,
    seq: int,
    embedder: str,
    chunks: Iterable[NewChunk],
) -> None:
    """Completes a file within a transaction that has taken `seq`; see `VectorStores.complete`."""
    tenant, store_id = TenantId(row.tenant), VectorStoreId(row.store)
    _claim(find_store(session, tenant, store_id), embedder, seq)
    delete_chunks(session, ChunkRow.store == row.store, ChunkRow.file == row.file)
    if row.replaces:
        _remove_replaced(session, row)
    row.seq, row.claimed_until = seq, None
    row.status, row.last_error, row.error_code = FileStatus.COMPLETED, None, None
    row.chunks = write_chunks(session, tenant, store_id, row.file, chunks)


def fail_file(row: VectorStoreFileRow, code: str, reason: str) -> None:
    row.status, row.error_code, row.last_error = FileStatus.FAILED, code, reason
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


def _with_counts(session: Session, rows: Iterable[VectorStoreRow]) -> list[VectorStore]:
    rows = list(rows)
    grouped = session.execute(
        select(
            VectorStoreFileRow.store,
            VectorStoreFileRow.status,
            func.count(),
            func.sum(VectorStoreFileRow.bytes),
        )
        .where(VectorStoreFileRow.store.in_([row.id for row in rows]))
        .group_by(VectorStoreFileRow.store, VectorStoreFileRow.status)
    ).all()
    return [
        _store(
            row,
            {FileStatus(status): count for store, status, count, _ in grouped if store == row.id},
            sum(int(size) for store, _, _, size in grouped if store == row.id),
        )
        for row in rows
    ]


def _store(
    row: VectorStoreRow, file_counts: Mapping[FileStatus, int], usage_bytes: int
) -> VectorStore:
    return VectorStore(
        VectorStoreId(row.id),
        TenantId(row.tenant),
        row.name,
        row.created_at,
        dict(row.details),
        file_counts,
        usage_bytes,
    )


def _store_file(row: VectorStoreFileRow) -> VectorStoreFile:
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
    )
