"""Uploaded files: the bytes in the object store, the rest in SQL.

The object store given here belongs to files alone: an object goes with the last file that has it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from serving.errors import Conflict, InvalidRequest, NotFound
from serving.store.database import Database, hold
from serving.store.drafts import is_in_a_store, remove_from_stores
from serving.store.models import FileRow, TenantRow
from serving.store.objects import ObjectStore
from serving.store.pages import FIRST, Page, Window, page
from serving.store.scope import find_file, is_past
from serving.store.sequence import advance
from serving.types import TenantId


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file; `bytes` is its size. Times are Unix seconds."""

    id: str
    tenant: TenantId
    filename: str
    bytes: int
    purpose: str
    sha256: str
    created_at: int
    expires_at: int | None = None


class Files:
    """One tenant's files look to another as if they did not exist."""

    def __init__(
        self, db: Database, objects: ObjectStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._db = db
        self._objects = objects
        self._clock = clock

    def create(
        self,
        tenant: TenantId,
        filename: str,
        data: bytes,
        purpose: str = "assistants",
        expires_after_s: int | None = None,
    ) -> File:
        """Stores the bytes, then the row that refers to them.

        Raises:
            InvalidRequest: the file has no name.
            NotFound: there is no such tenant.
        """
        if not filename:
            raise InvalidRequest("A file needs a name.", param="file")
        sha256, now = self._objects.put(data), int(self._clock())
        row = FileRow(
            id=f"file-{secrets.token_hex(12)}",
            tenant=tenant,
            filename=filename,
            bytes=len(data),
            purpose=purpose,
            sha256=sha256,
            created_at=now,
            expires_at=None if expires_after_s is None else now + expires_after_s,
        )
        with self._db.session() as session:
            if session.get(TenantRow, tenant) is None:
                raise NotFound(f"No such tenant: '{tenant}'.")
            hold(session, sha256)
            self._objects.put(data)  # again, if a concurrent delete of its twin took it
            session.add(row)
        return _file(row)

    def get(self, tenant: TenantId, file_id: str) -> File:
        with self._db.snapshot() as session:
            return _file(find_file(session, tenant, file_id, self._clock()))

    def content(self, tenant: TenantId, file_id: str) -> bytes:
        file = self.get(tenant, file_id)
        try:
            return self._objects.get(file.sha256)
        except FileNotFoundError:
            raise NotFound(f"The content of '{file_id}' is gone.", param="file_id") from None

    def list(
        self, tenant: TenantId, window: Window = FIRST, purpose: str | None = None
    ) -> Page[File]:
        lasting = or_(FileRow.expires_at.is_(None), FileRow.expires_at > self._clock())
        query = select(FileRow).where(FileRow.tenant == tenant, lasting)
        narrowed = [] if purpose is None else [FileRow.purpose == purpose]
        with self._db.snapshot() as session:
            rows = page(session, query, window, FileRow.created_at, FileRow.id, *narrowed)
            return Page(tuple(map(_file, rows.items)), rows.has_more)

    def delete(self, tenant: TenantId, file_id: str, *, if_unused: bool = False) -> None:
        """Deletes the file, its chunks in every vector store, and its bytes if nobody has them.

        Raises:
            Conflict: a vector store has it, and it shall be deleted only if none has.
        """
        with self._db.session() as session:
            row = find_file(session, tenant, file_id, self._clock())
            hold(session, row.sha256)
            advance(session)  # so that nobody attaches it meanwhile
            if if_unused and is_in_a_store(session, file_id):
                raise Conflict(f"A vector store has '{file_id}'.", param="if_unused")
            self._delete(session, row)

    def delete_expired(self) -> int:
        """Deletes what has expired, a file in a transaction; returns how many those were."""
        now = self._clock()
        with self._db.snapshot() as session:
            due = session.scalars(select(FileRow.id).where(FileRow.expires_at <= now)).all()
        return sum(self._delete_if_due(file_id, now) for file_id in due)

    def _delete_if_due(self, file_id: str, now: float) -> bool:
        with self._db.session() as session:
            row = session.get(FileRow, file_id)
            if row is None or not is_past(row.expires_at, now):
                return False
            self._delete(session, row)
            return True

    def _delete(self, session: Session, row: FileRow) -> None:
        hold(session, row.sha256)
        remove_from_stores(session, row.id)
        session.delete(row)
        session.flush()
        if session.scalar(select(FileRow.id).where(FileRow.sha256 == row.sha256)) is None:
            self._objects.delete(row.sha256)


def _file(row: FileRow) -> File:
    return File(
        row.id,
        TenantId(row.tenant),
        row.filename,
        row.bytes,
        row.purpose,
        row.sha256,
        row.created_at,
        row.expires_at,
    )
