"""A tenant's rows by id: what another tenant owns looks as if it did not exist."""

from __future__ import annotations

from sqlalchemy.orm import Session

from serving.errors import InvalidRequest, NotFound
from serving.store.models import FileRow, VectorStoreFileRow, VectorStoreRow
from serving.types import TenantId, VectorStoreId

DAY_S = 86_400


def find_file(session: Session, tenant: TenantId, file_id: str, now: float) -> FileRow:
    """The tenant's file, or NotFound: the same for an unknown id as for another tenant's."""
    row = session.get(FileRow, file_id)
    if row is None or row.tenant != tenant or is_past(row.expires_at, now):
        raise unknown_file(file_id)
    return row


def find_store(session: Session, tenant: TenantId, store_id: VectorStoreId) -> VectorStoreRow:
    """The tenant's store, or NotFound: the same for an unknown id as for another tenant's."""
    row = session.get(VectorStoreRow, store_id)
    if row is None or row.tenant != tenant or row.deleted_at is not None:
        raise unknown_store(store_id)
    return row


def find_live_store(
    session: Session, tenant: TenantId, store_id: VectorStoreId, now: float
) -> VectorStoreRow:
    """The same, of a store that can still be used; raises InvalidRequest if it has expired."""
    row = find_store(session, tenant, store_id)
    if has_expired(row, now):
        raise expired_store(store_id)
    return row


def find_store_file(
    session: Session, tenant: TenantId, store_id: VectorStoreId, file_id: str
) -> VectorStoreFileRow:
    find_store(session, tenant, store_id)
    row = session.get(VectorStoreFileRow, (store_id, file_id))
    if row is None:
        raise NotFound(f"No such file in this vector store: '{file_id}'.", param="file_id")
    return row


def unknown_file(file_id: str) -> NotFound:
    return NotFound(f"No such file: '{file_id}'.", param="file_id")


def unknown_store(store_id: VectorStoreId) -> NotFound:
    return NotFound(f"No such vector store: '{store_id}'.", param="vector_store_id")


def expired_store(store_id: VectorStoreId) -> InvalidRequest:
    return InvalidRequest(
        f"The vector store '{store_id}' has expired; create a new one with the same files.",
        param="vector_store_id",
    )


def expires_at(row: VectorStoreRow) -> int | None:
    """When the store expires if nobody uses it until then, in Unix seconds."""
    days = row.expires_after_days
    return None if days is None else row.last_active_at + days * DAY_S


def has_expired(row: VectorStoreRow, now: float) -> bool:
    """What was once swept stays expired, whatever is changed afterwards."""
    return row.expired_at is not None or is_past(expires_at(row), now)


def is_past(moment: int | None, now: float) -> bool:
    return moment is not None and moment <= now
