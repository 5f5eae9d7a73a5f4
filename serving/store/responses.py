"""Stored responses: what came in and what went out, each naming the one it continues."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, literal, select, update
from sqlalchemy.orm import Session, aliased

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.models import ResponseRow
from serving.types import TenantId

Item = Mapping[str, Any]  # one of OpenAI's input or output items

_ID = re.compile(r"resp_[0-9a-f]{32}")
DAY_S = 24 * 60 * 60
KEEP_DAYS = 30
MAX_TURNS = 1000
MAX_CHARS = 8 * 2**20  # of a conversation that is read back


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`input` holds this turn's own items, `body` the response as it was answered."""

    id: str
    tenant: TenantId
    previous: str | None
    input: Sequence[Item]
    body: Mapping[str, Any]

    @property
    def items(self) -> list[Item]:
        """What the turn added to the conversation."""
        return [*self.input, *self.body["output"]]


class Responses:
    """One tenant's responses look to another as if they did not exist."""

    def __init__(
        self, db: Database, clock: Callable[[], float] = time.time, keep_days: int = KEEP_DAYS
    ) -> None:
        self._db = db
        self._clock = clock
        self._keep_s = keep_days * DAY_S

    def save(self, response: StoredResponse) -> None:
        """Keeps the response, and lets go of the tenant's that are older than they are kept."""
        now = int(self._clock())
        old = delete(ResponseRow).where(
            ResponseRow.tenant == response.tenant, ResponseRow.created_at < now - self._keep_s
        )
        with self._db.session() as session:
            session.execute(old)
            session.add(
                ResponseRow(
                    id=response.id,
                    tenant=response.tenant,
                    previous=response.previous,
                    input=list(response.input),
                    body=dict(response.body),
                    created_at=now,
                )
            )

    def get(self, tenant: TenantId, id: str) -> StoredResponse:
        with self._db.snapshot() as session:
            return _stored(self._find(session, tenant, id))

    def delete(self, tenant: TenantId, id: str) -> None:
        """Takes one turn away; those after it go on from the one before it."""
        after = update(ResponseRow).where(ResponseRow.tenant == tenant, ResponseRow.previous == id)
        with self._db.session() as session:
            row = self._find(session, tenant, id)
            session.execute(after.values(previous=row.previous))
            session.delete(row)

    def conversation(self, tenant: TenantId, id: str) -> list[Item]:
        """Every item up to and with response `id`, oldest first.

        Raises:
            NotFound: there is no such response, or it is another tenant's.
            InvalidRequest: it is longer than `MAX_CHARS`.
        """
        turns: list[list[Item]] = []
        chars = 0
        with self._db.snapshot() as session:
            self._find(session, tenant, id, param="previous_response_id")
            with closing(session.scalars(_newest_first(tenant, id))) as rows:
                for row in rows:
                    turns.append(_stored(row).items)
                    chars += len(json.dumps(turns[-1]))
                    if chars > MAX_CHARS:
                        raise InvalidRequest(
                            f"the conversation is over the limit of {MAX_CHARS} characters",
                            param="previous_response_id",
                        )
        return [item for turn in reversed(turns) for item in turn]

    def items(self, tenant: TenantId, wanted: Mapping[str, str]) -> dict[str, Item]:
        """Items by their ids, given with the id of the response that each belongs to."""
        with self._db.snapshot() as session:
            rows = session.scalars(_of(tenant).where(ResponseRow.id.in_(set(wanted.values()))))
            known: Iterable[Item] = (item for row in rows for item in _stored(row).items)
            return {item["id"]: item for item in known if item["id"] in wanted}

    def _find(
        self, session: Session, tenant: TenantId, id: str, param: str | None = None
    ) -> ResponseRow:
        row = None
        if _ID.fullmatch(id):
            row = session.scalar(_of(tenant).where(ResponseRow.id == id))
        if row is None or row.created_at < self._clock() - self._keep_s:
            raise NotFound(f"No such response: '{id}'.", param=param)
        return row


def _of(tenant: TenantId) -> Select[ResponseRow]:
    return select(ResponseRow).where(ResponseRow.tenant == tenant)


def _newest_first(tenant: TenantId, id: str) -> Select[ResponseRow]:
    """The response and those that it continues, in one statement, read a few rows at a time."""
    first = (
        select(ResponseRow.id, ResponseRow.previous, literal(1).label("turn"))
        .where(ResponseRow.id == id, ResponseRow.tenant == tenant)
        .cte(recursive=True)
    )
    before = aliased(ResponseRow)
    chain = first.union_all(
        select(before.id, before.previous, first.c.turn + 1)
        .join(first, before.id == first.c.previous)
        .where(before.tenant == tenant, first.c.turn < MAX_TURNS)
    )
    rows = select(ResponseRow).join(chain, ResponseRow.id == chain.c.id)
    return rows.order_by(chain.c.turn).execution_options(yield_per=16)


def _stored(row: ResponseRow) -> StoredResponse:
    return StoredResponse(row.id, TenantId(row.tenant), row.previous, row.input, row.body)
