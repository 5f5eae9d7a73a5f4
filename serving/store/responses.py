"""Stored responses: what came in and what went out, each naming the one it continues."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Text, and_, cast, delete, func, literal, select, update
from sqlalchemy.orm import Session

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.models import ResponseRow, TenantRow
from serving.types import TenantId

Item = Mapping[str, Any]  # one of OpenAI's input or output items

_ID = re.compile(r"resp_[0-9a-f]{32}")
DAY_S = 24 * 60 * 60
KEEP_DAYS = 30
MAX_TURNS = 1000
MAX_CHARS = 8 * 2**20  # of a conversation as it is kept, with all that was said about it


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
        with self._db.session() as session:
            session.add(
                ResponseRow(
                    id=response.id,
                    tenant=response.tenant,
                    previous=response.previous,
                    input=list(response.input),
                    body=dict(response.body),
                    created_at=int(self._clock()),
                )
            )

    def delete_expired(self) -> int:
        """Every tenant's that are older than they are kept; returns how many those were."""
        tenants = select(TenantRow.id)  # named, so that the index on both columns is used
        old = delete(ResponseRow).where(
            ResponseRow.tenant.in_(tenants), ResponseRow.created_at < self._oldest
        )
        with self._db.session() as session:
            return len(session.execute(old.returning(ResponseRow.id)).all())

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
            InvalidRequest: it is longer than `MAX_CHARS` or `MAX_TURNS`.
        """
        with self._db.snapshot() as session:
            self._find(session, tenant, id, param="previous_response_id")
            turns = self._chain(tenant, id)
            chosen = ResponseRow.id == turns.c.id
            _check_size(session, chosen, "previous_response_id")
            rows = session.scalars(select(ResponseRow).where(chosen).order_by(turns.c.turn.desc()))
            return [item for row in rows for item in _stored(row).items]

    def items(self, tenant: TenantId, wanted: Mapping[str, str]) -> dict[str, Item]:
        """Items by their ids, given with the id of the response that each belongs to.

        Raises:
            InvalidRequest: their responses are more than `MAX_CHARS` or `MAX_TURNS`.
        """
        ids = set(wanted.values())
        if len(ids) > MAX_TURNS:
            raise _too_long("input")
        chosen = and_(self._of(tenant), ResponseRow.id.in_(ids))
        with self._db.snapshot() as session:
            _check_size(session, chosen, "input")
            rows = session.scalars(select(ResponseRow).where(chosen))
            known: Iterable[Item] = (item for row in rows for item in _stored(row).items)
            return {item["id"]: item for item in known if item["id"] in wanted}

    def _find(
        self, session: Session, tenant: TenantId, id: str, param: str | None = None
    ) -> ResponseRow:
        row = None
        if _ID.fullmatch(id):
            row = session.scalar(select(ResponseRow).where(self._of(tenant), ResponseRow.id == id))
        if row is None:
            raise NotFound(f"No such response: '{id}'.", param=param)
        return row

    @property
    def _oldest(self) -> float:
        return self._clock() - self._keep_s

    def _of(self, tenant: TenantId) -> ColumnElement[bool]:
        return and_(ResponseRow.tenant == tenant, ResponseRow.created_at >= self._oldest)

    def _chain(self, tenant: TenantId, id: str) -> CTE:
        """The response and those that it continues, by `id`, with their `turn` counted back."""
        last = (
            select(ResponseRow.id, ResponseRow.previous, literal(1).label("turn"))
            .where(self._of(tenant), ResponseRow.id == id)
            .cte(recursive=True)
        )
        before = (
            select(ResponseRow.id, ResponseRow.previous, last.c.turn + 1)
            .join(last, ResponseRow.id == last.c.previous)
            .where(self._of(tenant), last.c.turn <= MAX_TURNS)
        )
        return last.union_all(before)


def _check_size(session: Session, chosen: ColumnElement[bool], param: str) -> None:
    """Asks SQL before anything is read, since a short request may name much."""
    size = func.length(cast(ResponseRow.input, Text)) + func.length(cast(ResponseRow.body, Text))
    turns, chars = session.execute(select(func.count(), func.sum(size)).where(chosen)).one()
    if turns > MAX_TURNS or (chars or 0) > MAX_CHARS:
        raise _too_long(param)


def _too_long(param: str) -> InvalidRequest:
    limit = f"{MAX_TURNS} responses or {MAX_CHARS} characters"
    return InvalidRequest(f"the conversation is over the limit of {limit}", param=param)


def _stored(row: ResponseRow) -> StoredResponse:
    return StoredResponse(row.id, TenantId(row.tenant), row.previous, row.input, row.body)
