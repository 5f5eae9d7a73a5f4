"""Answers in OpenAI's shapes, and the query parameters that ask for a part of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson
from fastapi import Request
from starlette.responses import Response

from serving.errors import InvalidRequest
from serving.store.pages import Page, Window
from serving.store.store_files import FileStatus

T = TypeVar("T")
WINDOW = frozenset({"limit", "after", "before", "order"})


def json_response(body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), 200, headers, "application/json")


def window(request: Request, *more: str, default: int = 20, most: int = 100) -> Window:
    """Which part a list request asks for; `more` are its other parameters.

    Raises:
        InvalidRequest: names the parameter that is unknown or malformed.
    """
    query = request.query_params
    if unknown := query.keys() - WINDOW - set(more):
        raise InvalidRequest(f"unknown parameter '{min(unknown)}'", param=min(unknown))
    limit = query.get("limit", str(default))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= most):
        raise InvalidRequest(f"'limit' must be between 1 and {most}", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'", param="order")
    before = query.get("before")
    return Window(int(limit), query.get("after"), "asc" if order == "asc" else "desc", before)


def flag(request: Request, name: str) -> bool:
    """A parameter that is `true` or `false`, or absent; raises InvalidRequest."""
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidRequest(f"'{name}' must be 'true' or 'false'", param=name)
    return value == "true"


def status_filter(request: Request) -> FileStatus | None:
    """The status in `filter`; raises InvalidRequest."""
    wanted = request.query_params.get("filter")
    if wanted is None:
        return None
    if wanted not in [*FileStatus]:
        raise InvalidRequest(f"'filter' must be one of {', '.join(FileStatus)}", param="filter")
    return FileStatus(wanted)


def listing(page: Page[T], body: Callable[[T], dict[str, Any]]) -> Response:
    data = [body(item) for item in page.items]
    return json_response(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": page.has_more,
        }
    )


def parts(kind: str, data: list[dict[str, Any]], **more: Any) -> Response:
    """A whole result in the shape of OpenAI's pages that have no cursor."""
    return json_response(
        {"object": kind, **more, "data": data, "has_more": False, "next_page": None}
    )
