"""Chat completions that their caller asked to keep (`store: true`), beside the stored responses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from serving.errors import NotFound
from serving.store.database import Database
from serving.store.models import ResponseRow
from serving.store.pages import FIRST, Page, Window, page
from serving.store.responses import DAY_S, KEEP_DAYS
from serving.types import Message, TenantId

_ID = re.compile(r"chatcmpl-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """`messages` as the client sent them, `body` the completion as it was answered."""

    id: str
    tenant: TenantId
    messages: Sequence[Message]
    body: Mapping[str, Any]


class Completions:
    """One tenant's completions look to another as if they did not exist. They share a table, and
    so the time they are kept, with responses; ids tell them apart."""

    def __init__(
        self, db: Database, clock: Callable[[], float] = time.time, keep_days: int = KEEP_DAYS
    ) -> None:
        self._db = db
        self._clock = clock
        self._keep_s = keep_days * DAY_S

    def save(self, completion: StoredCompletion) -> None:
        with self._db.session() as session:
            session.add(
                ResponseRow(
                    id=completion.id,
                    tenant=completion.tenant,
                    previous=None,
                    input=list(completion.messages),
                    body=dict(completion.body),
                    created_at=int(self._clock()),
                )
            )

    def get(self, tenant: TenantId, id: str) -> StoredCompletion:
        with self._db.snapshot() as session:
            return _stored(self._find(session, tenant, id))

    def list(
        self,
        tenant: TenantId,
        window: Window = FIRST,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Page[StoredCompletion]:
        """Those of a model and with all of these `metadata`, where given."""
        narrowed = [
            ResponseRow.body["metadata"][key].as_string() == value
            for key, value in (metadata or {}).items()
        ]
        if model is not None:
            narrowed.append(ResponseRow.body["model"].as_string() == model)
        query = select(ResponseRow).where(self._of(tenant))
        with self._db.snapshot() as session:
            found = page(session, query, window, ResponseRow.created_at, ResponseRow.id, *narrowed)
            return Page(tuple(map(_stored, found.items)), found.has_more)

    def set_metadata(
        self, tenant: TenantId, id: str, metadata: Mapping[str, str]
    ) -> StoredCompletion:
        with self._db.session() as session:
            row = self._find(session, tenant, id)
            row.body = {**row.body, "metadata": dict(metadata)}
            return _stored(row)

    def delete(self, tenant: TenantId, id: str) -> None:
        with self._db.session() as session:
            session.delete(self._find(session, tenant, id))

    def _find(self, session: Session, tenant: TenantId, id: str) -> ResponseRow:
        row = None
        if _ID.fullmatch(id):
            row = session.scalar(select(ResponseRow).where(self._of(tenant), ResponseRow.id == id))
        if row is None:
            raise NotFound(f"No such stored completion: '{id}'.")
        return row

    def _of(self, tenant: TenantId) -> ColumnElement[bool]:
        return and_(
            ResponseRow.tenant == tenant,
            ResponseRow.created_at >= self._clock() - self._keep_s,
            ResponseRow.id.startswith("chatcmpl-", autoescape=True),
        )


def _stored(row: ResponseRow) -> StoredCompletion:
    return StoredCompletion(row.id, TenantId(row.tenant), row.input, row.body)
