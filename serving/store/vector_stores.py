"""Vector stores, as in OpenAI's API: named sets of a tenant's documents, which may expire.

What happens to the files in them is in `store_files.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict, Unpack

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from serving.errors import NotFound
from serving.store.drafts import delete_chunks
from serving.store.models import (
    ChunkRow,
    FileBatchRow,
    TenantRow,
    VectorStoreFileRow,
    VectorStoreRow,
)
from serving.store.pages import FIRST, Page, Window, page
from serving.store.scope import (
    DAY_S,
    expired_store,
    expires_at,
    find_store,
    has_expired,
    unknown_store,
)
from serving.store.sequence import advance
from serving.store.store_files import (
    FileStatus,
    NewStoreFile,
    StoreFiles,
    VectorStoreFile,
    attach_all,
    complete_file,
    fail_file,
)
from serving.types import TenantId, VectorStoreId

__all__ = [
    "FileStatus",
    "StoreStatus",
    "VectorStore",
    "VectorStoreFile",
    "VectorStores",
    "complete_file",
    "fail_file",
    "unknown_store",
]

ACTIVITY_S = 60  # `last_active_at` is as coarse as that


class StoreStatus(StrEnum):
    EXPIRED = "expired"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class StoreChanges(TypedDict, total=False):
    """What can be changed of a store; None in `expires_after_days` makes it last."""

    name: str
    metadata: Mapping[str, Any]
    expires_after_days: int | None
    ranking: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class VectorStore:
    """`file_counts` by status; `metadata` is the client's own; `ranking` weighs its rankings."""

    id: VectorStoreId
    tenant: TenantId
    name: str
    created_at: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    file_counts: Mapping[FileStatus, int] = field(default_factory=dict)
    usage_bytes: int = 0
    description: str = ""
    ranking: Mapping[str, float] = field(default_factory=dict)
    expires_after_days: int | None = None
    expires_at: int | None = None
    last_active_at: int = 0
    expired: bool = False

    @property
    def status(self) -> StoreStatus:
        if self.expired:
            return StoreStatus.EXPIRED
        busy = self.file_counts.get(FileStatus.IN_PROGRESS, 0)
        return StoreStatus.IN_PROGRESS if busy else StoreStatus.COMPLETED


class VectorStores(StoreFiles):
    """A tenant's stores and the files in them; to another tenant they do not exist."""

    def create(
        self,
        tenant: TenantId,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        description: str = "",
        expires_after_days: int | None = None,
        ranking: Mapping[str, float] | None = None,
        files: Sequence[NewStoreFile] = (),
    ) -> VectorStore:
        """A new store with these files on their way into it.

        Raises:
            NotFound: there is no such tenant, or one of the files is not the tenant's.
        """
        now = self._clock()
        with self._db.session() as session:
            if session.get(TenantRow, tenant) is None:
                raise NotFound(f"No such tenant: '{tenant}'.")
            row = VectorStoreRow(
                id=f"vs_{secrets.token_hex(12)}",
                seq=advance(session),
                tenant=tenant,
                name=name,
                description=description,
                details=dict(metadata or {}),
                ranking=dict(ranking or {}),
                split=False,
                expires_after_days=expires_after_days,
                last_active_at=int(now),
                created_at=int(now),
            )
            session.add(row)
            session.flush()
            if files:
                attach_all(session, tenant, VectorStoreId(row.id), files, now)
                session.flush()
            return _read(session, [row], self._clock())[0]

    def get(self, tenant: TenantId, store_id: VectorStoreId) -> VectorStore:
        with self._db.snapshot() as session:
            return _read(session, [find_store(session, tenant, store_id)], self._clock())[0]

    def check_usable(self, tenant: TenantId, store_id: VectorStoreId) -> None:
        """Raises NotFound, or InvalidRequest if the store has expired."""
        with self._db.snapshot() as session:
            if has_expired(find_store(session, tenant, store_id), self._clock()):
                raise expired_store(store_id)

    def find(self, tenant: TenantId, name: str) -> VectorStore | None:
        """The tenant's newest store of that name."""
        query = select(VectorStoreRow).where(
            VectorStoreRow.tenant == tenant,
            VectorStoreRow.name == name,
            VectorStoreRow.deleted_at.is_(None),
        )
        with self._db.snapshot() as session:
            row = session.scalars(query.order_by(VectorStoreRow.seq.desc()).limit(1)).first()
            return _read(session, [row], self._clock())[0] if row else None

    def list(self, tenant: TenantId, window: Window = FIRST) -> Page[VectorStore]:
        query = select(VectorStoreRow).where(
            VectorStoreRow.tenant == tenant, VectorStoreRow.deleted_at.is_(None)
        )
        with self._db.snapshot() as session:
            rows = page(session, query, window, VectorStoreRow.created_at, VectorStoreRow.id)
            return Page(tuple(_read(session, rows.items, self._clock())), rows.has_more)

    def update(
        self, tenant: TenantId, store_id: VectorStoreId, **changes: Unpack[StoreChanges]
    ) -> VectorStore:
        """Changes what is given.

        Raises:
            InvalidRequest: a store that has expired was to expire at another time.
        """
        with self._db.session() as session:
            row = find_store(session, tenant, store_id)
            if "name" in changes:
                row.name = changes["name"]
            if "metadata" in changes:
                row.details = dict(changes["metadata"])
            if "expires_after_days" in changes:
                if has_expired(row, self._clock()):
                    raise expired_store(store_id)
                row.seq = advance(session)  # retrievers must know when to stop
                row.expires_after_days = changes["expires_after_days"]
            if "ranking" in changes:
                row.seq, row.ranking = advance(session), dict(changes["ranking"])
            return _read(session, [row], self._clock())[0]

    def delete(self, tenant: TenantId, store_id: VectorStoreId) -> None:
        """Deletes the store and its chunks; its files stay uploaded."""
        with self._db.session() as session:
            row = find_store(session, tenant, store_id)
            row.seq, row.deleted_at = advance(session), int(self._clock())
            _empty(session, row)

    def touch(self, store_ids: Iterable[VectorStoreId]) -> None:
        """Notes that the stores were used; what has expired stays expired."""
        now = int(self._clock())
        row = VectorStoreRow
        days = func.coalesce(row.expires_after_days, now)  # None: beyond any time
        with self._db.session() as session:
            session.execute(
                update(row)
                .where(row.id.in_([*store_ids]), row.expired_at.is_(None))
                .where(row.last_active_at <= now - ACTIVITY_S)
                .where(row.last_active_at + days * DAY_S > now)
                .values(last_active_at=now)
                .execution_options(synchronize_session=False)
            )

    def empty_expired(self) -> int:
        """Takes everything out of stores that have expired; returns how many those were."""
        row, now = VectorStoreRow, int(self._clock())
        due = select(row.id).where(
            row.expired_at.is_(None),
            row.deleted_at.is_(None),
            row.last_active_at + row.expires_after_days * DAY_S <= now,
        )
        with self._db.snapshot() as session:
            found = session.scalars(due).all()
        return sum(self._empty_if_due(store_id, now) for store_id in found)

    def _empty_if_due(self, store_id: str, now: int) -> bool:
        with self._db.session() as session:
            row = session.get(VectorStoreRow, store_id)
            if row is None or row.deleted_at is not None or row.expired_at is not None:
                return False
            if not has_expired(row, now):
                return False
            row.expired_at = now
            _empty(session, row)
            return True


def _read(session: Session, rows: Iterable[VectorStoreRow], now: float) -> list[VectorStore]:
    rows = [*rows]
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
            has_expired(row, now),
        )
        for row in rows
    ]


def _empty(session: Session, row: VectorStoreRow) -> None:
    delete_chunks(session, ChunkRow.store == row.id)
    session.execute(delete(VectorStoreFileRow).where(VectorStoreFileRow.store == row.id))
    session.execute(delete(FileBatchRow).where(FileBatchRow.store == row.id))


def _store(
    row: VectorStoreRow, file_counts: Mapping[FileStatus, int], usage_bytes: int, expired: bool
) -> VectorStore:
    return VectorStore(
        VectorStoreId(row.id),
        TenantId(row.tenant),
        row.name,
        row.created_at,
        dict(row.details),
        file_counts,
        usage_bytes,
        row.description,
        dict(row.ranking),
        row.expires_after_days,
        expires_at(row),
        row.last_active_at,
        expired,
    )
