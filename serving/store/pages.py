"""Lists in OpenAI's manner: `limit`, `after` an id, `order` by creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from serving.errors import InvalidRequest

T = TypeVar("T")
Order = Literal["asc", "desc"]
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `has_more` says whether a further page follows."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is wanted."""

    limit: int = 20
    after: str | None = None
    order: Order = "desc"

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise InvalidRequest(f"'limit' must be between 1 and {MAX_LIMIT}.", param="limit")
        if self.order not in ("asc", "desc"):
            raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")


FIRST = Window()


def page(
    session: Session,
    query: Select[T],
    window: Window,
    created_at: InstrumentedAttribute[int],
    id: InstrumentedAttribute[str],
) -> Page[T]:
    """Runs `query`, which selects one entity, for one window."""
    if window.after is not None:
        query = query.where(_beyond(session, query, window, created_at, id))
    ascending = window.order == "asc"
    columns = (created_at, id) if ascending else (created_at.desc(), id.desc())
    rows = session.scalars(query.order_by(*columns).limit(window.limit + 1)).all()
    return Page(tuple(rows[: window.limit]), has_more=len(rows) > window.limit)


def _beyond(
    session: Session,
    query: Select[T],
    window: Window,
    created_at: InstrumentedAttribute[int],
    id: InstrumentedAttribute[str],
) -> Any:
    found = query.where(id == window.after).with_only_columns(created_at, id)
    anchor = session.execute(found).one_or_none()
    if anchor is None:
        raise InvalidRequest(f"'after' names no listed object: '{window.after}'.", param="after")
    here, last = tuple_(created_at, id), tuple_(*anchor)
    return here > last if window.order == "asc" else here < last
