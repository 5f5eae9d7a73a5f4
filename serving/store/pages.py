"""Lists in OpenAI's manner: `limit`, `after` and `before` an id, `order` by creation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from serving.errors import InvalidRequest, NotFound

T = TypeVar("T")
Order = Literal["asc", "desc"]
MAX_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `has_more` says whether more follows, or precedes if asked for `before`."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is wanted: the first after `after`, or the last before `before`."""

    limit: int = 20
    after: str | None = None
    order: Order = "desc"
    before: str | None = None

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
    id: InstrumentedAttribute[str] | ColumnElement[str],
    *narrowed: ColumnElement[bool],
) -> Page[T]:
    """Runs `query`, which selects one entity, for one window.

    A cursor may be any object of `query`, also one that `narrowed` leaves out: a file goes on to
    another status while its list is read.

    Raises:
        NotFound: a cursor names no object of `query`.
    """
    here, ascending = tuple_(created_at, id), window.order == "asc"
    wanted = query.where(*narrowed)
    if window.after is not None:
        last = _place(session, query, created_at, id, window.after, "after")
        wanted = wanted.where(here > last if ascending else here < last)
    if window.before is not None:
        first = _place(session, query, created_at, id, window.before, "before")
        wanted = wanted.where(here < first if ascending else here > first)
    backwards = window.before is not None and window.after is None
    up = ascending is not backwards
    columns = (created_at, id) if up else (created_at.desc(), id.desc())
    rows = session.scalars(wanted.order_by(*columns).limit(window.limit + 1)).all()
    items = rows[: window.limit]
    return Page(tuple(reversed(items) if backwards else items), len(rows) > window.limit)


def _place(
    session: Session,
    query: Select[T],
    created_at: InstrumentedAttribute[int],
    id: InstrumentedAttribute[str] | ColumnElement[str],
    cursor: str,
    param: str,
) -> Any:
    found = query.where(id == cursor).with_only_columns(created_at, id)
    place = session.execute(found).one_or_none()
    if place is None:
        raise NotFound(f"'{param}' names no object of this list: '{cursor}'.", param=param)
    return tuple_(*place)
