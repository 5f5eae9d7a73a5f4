"""Files put into a vector store together, followed and cancelled as one.

A batch is the rows that name it: a file that is attached again belongs to the newer batch.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from serving.errors import NotFound
from serving.store.database import Database
from serving.store.models import FileBatchRow, VectorStoreFileRow
from serving.store.pages import FIRST, Page, Window
from serving.store.scope import find_store
from serving.store.sequence import advance
from serving.store.store_files import (
    FileStatus,
    NewStoreFile,
    VectorStoreFile,
    attach_all,
    list_files,
)
from serving.types import TenantId, VectorStoreId


@dataclass(frozen=True, slots=True)
class FileBatch:
    """`file_counts` by status."""

    id: str
    tenant: TenantId
    vector_store: VectorStoreId
    created_at: int
    cancelled: bool
    file_counts: Mapping[FileStatus, int]

    @property
    def status(self) -> FileStatus:
        """`failed` is a batch of which nothing else became."""
        if self.cancelled:
            return FileStatus.CANCELLED
        if self.file_counts.get(FileStatus.IN_PROGRESS):
            return FileStatus.IN_PROGRESS
        only_failed = set(self.file_counts) == {FileStatus.FAILED}
        return FileStatus.FAILED if only_failed else FileStatus.COMPLETED


class FileBatches:
    """One tenant's batches look to another as if they did not exist."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def create(
        self, tenant: TenantId, store_id: VectorStoreId, files: Sequence[NewStoreFile]
    ) -> FileBatch:
        """Attaches all of the files, or none; see `store_files.attach_all`."""
        with self._db.session() as session:
            now = self._clock()
            row = FileBatchRow(
                id=f"vsfb_{secrets.token_hex(12)}",
                tenant=tenant,
                store=store_id,
                created_at=int(now),
            )
            attach_all(session, tenant, store_id, files, now, batch=row.id)
            session.add(row)
            session.flush()
            return _batch(session, row)

    def get(self, tenant: TenantId, store_id: VectorStoreId, batch_id: str) -> FileBatch:
        with self._db.snapshot() as session:
            return _batch(session, _find(session, tenant, store_id, batch_id))

    def files(
        self,
        tenant: TenantId,
        store_id: VectorStoreId,
        batch_id: str,
        window: Window = FIRST,
        status: FileStatus | None = None,
    ) -> Page[VectorStoreFile]:
        with self._db.snapshot() as session:
            _find(session, tenant, store_id, batch_id)
            return list_files(session, window, status, VectorStoreFileRow.batch == batch_id)

    def cancel(self, tenant: TenantId, store_id: VectorStoreId, batch_id: str) -> FileBatch:
        """Stops what is in progress; what has ended stays, and so does a batch that has ended."""
        with self._db.session() as session:
            advance(session)  # so that no worker completes a file in the meantime
            row = _find(session, tenant, store_id, batch_id)
            if _batch(session, row).status is FileStatus.IN_PROGRESS:
                row.cancelled_at = int(self._clock())
                session.execute(
                    update(VectorStoreFileRow)
                    .where(VectorStoreFileRow.batch == batch_id)
                    .where(VectorStoreFileRow.status == FileStatus.IN_PROGRESS)
                    .values(status=FileStatus.CANCELLED, claimed_until=None)
                )
            return _batch(session, row)


def _find(
    session: Session, tenant: TenantId, store_id: VectorStoreId, batch_id: str
) -> FileBatchRow:
    find_store(session, tenant, store_id)
    row = session.get(FileBatchRow, batch_id)
    if row is None or row.store != store_id:
        raise NotFound(f"No such batch in this vector store: '{batch_id}'.", param="batch_id")
    return row


def _batch(session: Session, row: FileBatchRow) -> FileBatch:
    counts = session.execute(
        select(VectorStoreFileRow.status, func.count())
        .where(VectorStoreFileRow.batch == row.id)
        .group_by(VectorStoreFileRow.status)
    )
    return FileBatch(
        row.id,
        TenantId(row.tenant),
        VectorStoreId(row.store),
        row.created_at,
        row.cancelled_at is not None,
        {FileStatus(status): count for status, count in counts},
    )
