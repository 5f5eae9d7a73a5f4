"""What apps name in `model`, one JSON body per tenant and name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pydantic import TypeAdapter
from sqlalchemy import delete, select

from serving.errors import NotFound
from serving.store.cache import RecentlyRead
from serving.store.database import Database
from serving.store.models import AssistantRow, TenantRow
from serving.types import Assistant, TenantId

CACHE_S = 1.0
_BODY = TypeAdapter(Assistant)
_ONE_AT_A_TIME = {"key_share": True}  # and other tables may name the row meanwhile


class Assistants:
    """Reads are at most `CACHE_S` old in other processes, current in the one that wrote."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._clock = clock
        self._read: RecentlyRead[tuple[TenantId, str], tuple[Assistant | None]] = RecentlyRead(
            CACHE_S, monotonic
        )

    def put(
        self,
        assistant: Assistant,
        following: Callable[[Assistant | None, Assistant], Assistant] = lambda _, new: new,
    ) -> Assistant:
        """Creates or replaces, by what `following` makes of it after the one that is there.

        Raises:
            NotFound: the tenant does not exist.
        """
        key = {"tenant": assistant.tenant, "name": assistant.name}
        with self._db.session() as session:
            # Its lock is for two who create the same: there is no row yet that could be locked.
            if session.get(TenantRow, assistant.tenant, with_for_update=_ONE_AT_A_TIME) is None:
                raise NotFound(f"No such tenant: '{assistant.tenant}'.")
            row = session.get(AssistantRow, key, with_for_update=True)
            assistant = following(_BODY.validate_python(row.body) if row else None, assistant)
            session.merge(
                AssistantRow(
                    tenant=assistant.tenant,
                    name=assistant.name,
                    body=_BODY.dump_python(assistant, mode="json"),
                    updated_at=int(self._clock()),
                )
            )
        self._read.clear()
        return assistant

    def change(
        self, tenant: TenantId, name: str, change: Callable[[Assistant], Assistant]
    ) -> Assistant:
        """Reads and writes in one transaction, so that of two changes neither is lost.

        Raises:
            NotFound: there is no such assistant; whatever `change` raises leaves it as it was.
        """
        key = {"tenant": tenant, "name": name}
        with self._db.session() as session:
            row = session.get(AssistantRow, key, with_for_update=True)
            if row is None:
                raise NotFound(f"No such assistant: '{name}'.")
            changed = change(_BODY.validate_python(row.body))
            row.body = _BODY.dump_python(changed, mode="json")
            row.updated_at = int(self._clock())
        self._read.clear()
        return changed

    def get(self, tenant: TenantId, name: str) -> Assistant | None:
        known = self._read.get((tenant, name))
        if known is None:
            mark = self._read.mark()
            known = (self._load(tenant, name),)
            self._read.put((tenant, name), known, mark)
        return known[0]

    async def find(self, tenant: TenantId, name: str) -> Assistant | None:
        """`get` without ever blocking the event loop on SQL."""
        known = self._read.get((tenant, name))
        return known[0] if known else await asyncio.to_thread(self.get, tenant, name)

    def _load(self, tenant: TenantId, name: str) -> Assistant | None:
        with self._db.snapshot() as session:
            row = session.get(AssistantRow, (tenant, name))
            return _BODY.validate_python(row.body) if row else None

    def list(self, tenant: TenantId) -> tuple[Assistant, ...]:
        """The tenant's assistants by name."""
        query = select(AssistantRow).where(AssistantRow.tenant == tenant)
        with self._db.snapshot() as session:
            rows = session.scalars(query.order_by(AssistantRow.name))
            return tuple(_BODY.validate_python(row.body) for row in rows)

    def delete(self, tenant: TenantId, name: str) -> None:
        query = delete(AssistantRow).where(AssistantRow.tenant == tenant, AssistantRow.name == name)
        with self._db.session() as session:
            if session.execute(query.returning(AssistantRow.name)).one_or_none() is None:
                raise NotFound(f"No such assistant: '{name}'.")
        self._read.clear()
