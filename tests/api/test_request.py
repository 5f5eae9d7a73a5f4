"""Bodies that are small on the wire and large or endless once they are read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fastapi import Request

from serving.api.request import MAX_CONTAINERS, MAX_DEPTH, read_json
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
