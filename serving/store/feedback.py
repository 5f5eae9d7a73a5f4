"""What users thought of answers: one vote for each, with the conversation where it is known."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select
from sqlalchemy.orm import Session

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database, hold
from serving.store.models import FeedbackRow
from serving.store.pages import FIRST, Page, Window, page
from serving.types import Message, TenantId

UP, DOWN = 1, -1
# One answer has one number; what stands before it says by which route it was asked for.
_FORMS = ("chatcmpl-", "cmpl-", "resp_", "req-")
_ID = re.compile(rf"({'|'.join(_FORMS)})([0-9a-f]{{32}})")


@dataclass(frozen=True, slots=True)
class Vote:
    """`messages` led to `answer`; both are None for a bare vote. `adapter` is `name@version`."""

    tenant: TenantId
    response: str
    rating: int
    comment: str | None = None
    better_answer: str | None = None
    messages: Sequence[Message] | None = None
    answer: str | None = None
    assistant: str | None = None
    adapter: str | None = None
    mode: str | None = None
    created_at: int = 0


def request_of(response: str) -> str:
    """The ledger's id of an answer.

    Raises:
        InvalidRequest: it is no answer's id.
    """
    found = _ID.fullmatch(response)
    if found is None:
        raise InvalidRequest(
            f"'response_id' is an answer's id: {', '.join(f'{form}…' for form in _FORMS)}",
            param="response_id",
        )
    return f"req-{found[2]}"


class Feedback:
    """One tenant's votes look to another as if they did not exist."""

    def __init__(self, db: Database, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._clock = clock

    def put(self, vote: Vote) -> Vote:
        """Keeps the vote in place of an earlier one for the same answer."""
        kept = replace(vote, created_at=int(self._clock()))
        with self._db.session() as session:
            hold(session, f"feedback {vote.tenant}")
            session.execute(delete(FeedbackRow).where(_same(vote.tenant, vote.response)))
            session.add(FeedbackRow(**_values(kept)))
        return kept

    def get(self, tenant: TenantId, response: str) -> Vote:
        with self._db.snapshot() as session:
            return _vote(_find(session, tenant, response))

    def list(
        self,
        tenant: TenantId,
        window: Window = FIRST,
        *,
        rating: int | None = None,
        **fields: str | None,
    ) -> Page[Vote]:
        """Those of a rating, and of an `assistant`, an `adapter`, a `mode`, where given."""
        wanted: Mapping[str, Any] = {"rating": rating, **fields}
        narrowed = [
            getattr(FeedbackRow, name) == value
            for name, value in wanted.items()
            if value is not None
        ]
        query = select(FeedbackRow).where(FeedbackRow.tenant == tenant)
        columns = FeedbackRow.created_at, FeedbackRow.response
        with self._db.snapshot() as session:
            found = page(session, query, window, *columns, *narrowed)
            return Page(tuple(map(_vote, found.items)), found.has_more)

    def delete(self, tenant: TenantId, response: str) -> None:
        with self._db.session() as session:
            session.delete(_find(session, tenant, response))


def _same(tenant: TenantId, response: str) -> ColumnElement[bool]:
    """The votes for the same answer, by whichever of its ids."""
    number = request_of(response).removeprefix("req-")
    ids = [form + number for form in _FORMS]
    return and_(FeedbackRow.tenant == tenant, FeedbackRow.response.in_(ids))


def _find(session: Session, tenant: TenantId, response: str) -> FeedbackRow:
    row = session.scalar(select(FeedbackRow).where(_same(tenant, response)))
    if row is None:
        raise NotFound(f"There is no feedback on '{response}'.", param="response_id")
    return row


def _values(vote: Vote) -> dict[str, Any]:
    values = {name: getattr(vote, name) for name in Vote.__slots__}
    return values | {"messages": None if vote.messages is None else list(vote.messages)}


def _vote(row: FeedbackRow) -> Vote:
    return Vote(**{name: getattr(row, name) for name in Vote.__slots__})
