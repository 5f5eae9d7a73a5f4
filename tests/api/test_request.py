"""Bodies that are small on the wire and large or endless once they are read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fastapi import Request

from serving.api.request import MAX_CONTAINERS, MAX_DEPTH, options_of, read_json
from serving.errors import InvalidRequest


async def read(body: bytes) -> dict[str, Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return await read_json(Request({"type": "http"}, receive), len(body))


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"0" + b"}" * levels


async def test_a_body_is_nested_to_a_limit() -> None:
    assert await read(nested(MAX_DEPTH)) == orjson.loads(nested(MAX_DEPTH))
    with pytest.raises(InvalidRequest, match="deeper than 64"):
        await read(nested(MAX_DEPTH + 1))


async def test_a_body_holds_so_many_lists_and_objects() -> None:
    empties: list[Any] = [[], {}]
    for empty in empties:
        assert await read(orjson.dumps({"a": [empty] * (MAX_CONTAINERS - 2)}))
        with pytest.raises(InvalidRequest, match="more than 50000"):
            await read(orjson.dumps({"a": [empty] * (MAX_CONTAINERS - 1)}))


@pytest.mark.parametrize(
    "filters",
    [
        {"type": "eq", "key": "team", "value": ["people"]},
        {"type": "eq", "key": "team", "value": "people", "more": 1},
        {"type": "near", "key": "team", "value": "people"},
        {"type": "and", "filters": [{"type": "in", "key": "team", "value": "people"}]},
        {"team": {"people": True}},
    ],
)
def test_filters_of_a_chat_are_checked_like_those_of_a_search(filters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        options_of({"filters": filters})
    assert refused.value.param == "engram.filters"
