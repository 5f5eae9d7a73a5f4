"""`/v1/chat/completions/{id}`: completions that were asked to be kept with `store: true`.

Without it nothing of a chat is kept: what users and documents say stays out of every record.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.api.bodies import Body, Metadata, check_plain, read_body
from serving.api.listing import listing, window
from serving.api.request import caller_of, validated
from serving.api.whole import chat_completion, collect
from serving.errors import InvalidRequest
from serving.store.completions import Completions, StoredCompletion
from serving.store.pages import Page
from serving.types import Caller, Event, Finished, Question

STORED = "/v1/chat/completions"
COMPLETION = STORED + "/{completion_id}"


class _Wish(BaseModel):
    """What a chat request says about keeping its answer."""

    model_config = ConfigDict(extra="ignore", strict=True)
    store: bool | None = None
    metadata: Metadata | None = None


class UpdateCompletion(Body):
    metadata: Metadata | None


class CompletionsApi:
    def __init__(self, completions: Completions, max_body_bytes: int) -> None:
        self._completions = completions
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(STORED, self.list, methods=["GET"])
        app.add_api_route(COMPLETION, self.get, methods=["GET"])
        app.add_api_route(COMPLETION, self.update, methods=["POST"])
        app.add_api_route(COMPLETION, self.delete, methods=["DELETE"])
        app.add_api_route(COMPLETION + "/messages", self.messages, methods=["GET"])

    async def list(self, request: Request) -> Response:
        names = [name for name in request.query_params if name.startswith("metadata[")]
        page = await run_in_threadpool(
            self._completions.list,
            caller_of(request).tenant,
            window(request, "model", *names),
            model=request.query_params.get("model"),
            metadata={_key(name): request.query_params[name] for name in names},
        )
        return listing(page, _body)

    async def get(self, request: Request, completion_id: str) -> dict[str, Any]:
        return _body(await self._stored(request, completion_id))

    async def update(self, request: Request, completion_id: str) -> dict[str, Any]:
        """Sets the metadata, which is all that can change."""
        body = await read_body(request, self._max_body_bytes, UpdateCompletion)
        tenant, metadata = caller_of(request).tenant, body.metadata or {}
        return _body(
            await run_in_threadpool(self._completions.set_metadata, tenant, completion_id, metadata)
        )

    async def delete(self, request: Request, completion_id: str) -> dict[str, Any]:
        tenant = caller_of(request).tenant
        await run_in_threadpool(self._completions.delete, tenant, completion_id)
        return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}

    async def messages(self, request: Request, completion_id: str) -> Response:
        """What the client sent, oldest first unless asked otherwise."""
        wanted = window(request, default=20)
        stored = await self._stored(request, completion_id)
        said = [{"id": f"{stored.id}-{n}", **m} for n, m in enumerate(stored.messages)]
        if request.query_params.get("order") == "desc":
            said.reverse()
        said = _after(said, wanted.after)
        return listing(Page(tuple(said[: wanted.limit]), len(said) > wanted.limit), dict)

    async def _stored(self, request: Request, id: str) -> StoredCompletion:
        return await run_in_threadpool(self._completions.get, caller_of(request).tenant, id)


def keeping(
    completions: Completions,
    caller: Caller,
    question: Question,
    body: Mapping[str, Any],
    events: AsyncGenerator[Event, None],
) -> AsyncGenerator[Event, None]:
    """The same events; if the request says `store`, the answer is in SQL before the last of them.

    Raises:
        InvalidRequest: `store` or `metadata` is malformed.
    """
    wish = validated(_Wish, {name: body.get(name) for name in ("store", "metadata")})
    if not wish.store:
        return events
    check_plain([*question.messages, wish.metadata])  # PostgreSQL keeps no NUL
    return _keeping(completions, caller, question, wish.metadata or {}, events)


async def _keeping(
    completions: Completions,
    caller: Caller,
    question: Question,
    metadata: Mapping[str, str],
    events: AsyncGenerator[Event, None],
) -> AsyncGenerator[Event, None]:
    said: list[Event] = []
    async with aclosing(events):
        async for event in events:
            said.append(event)
            if isinstance(event, Finished):
                answer = await collect(_again(said))
                body = chat_completion(question.id, question.model, answer)
                body |= {"metadata": dict(metadata)}
                stored = StoredCompletion(body["id"], caller.tenant, question.messages, body)
                await run_in_threadpool(completions.save, stored)
            yield event


async def _again(events: Sequence[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


def _body(completion: StoredCompletion) -> dict[str, Any]:
    return dict(completion.body)


def _key(name: str) -> str:
    """`team` of the parameter `metadata[team]`."""
    key = name.removeprefix("metadata[").removesuffix("]")
    if name != f"metadata[{key}]" or not key:
        raise InvalidRequest(f"unknown parameter '{name}'", param=name)
    return key


def _after(items: Sequence[dict[str, Any]], cursor: str | None) -> list[dict[str, Any]]:
    ids = [item["id"] for item in items]
    if cursor is None:
        return [*items]
    if cursor not in ids:
        raise InvalidRequest(f"'after' names no message here: '{cursor[:64]}'", param="after")
    return [*items[ids.index(cursor) + 1 :]]
