"""Lists in OpenAI's shape, and the query parameters that ask for a part of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import Request

from serving.errors import InvalidRequest
from serving.store.pages import Page, Window

T = TypeVar("T")


def window(request: Request) -> Window:
    """`limit`, `after` and `order` of a list request; raises InvalidRequest."""
    query = request.query_params
    limit = query.get("limit", "20")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4):
        raise InvalidRequest("'limit' must be a number", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'", param="order")
    return Window(int(limit), query.get("after"), "asc" if order == "asc" else "desc")


def listing(page: Page[T], body: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    data = [body(item) for item in page.items]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": page.has_more,
    }
