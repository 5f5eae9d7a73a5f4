"""Reads what came over HTTP: bodies within their limit, and JSON into a `Question`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Receive

from serving.api.filter_body import Filters
from serving.errors import BodyTooLarge, InvalidRequest
from serving.types import Caller, Document, Mode, Options, Question, VectorStoreId

M = TypeVar("M", bound=BaseModel)
MAX_MODEL_CHARS = 200
MAX_PARAM_CHARS = 200
MAX_DEPTH = 64
MAX_CONTAINERS = 50_000  # lists and objects in one body
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def caller_of(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    return caller


async def read_json(request: Request, limit_bytes: int) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        BodyTooLarge: it is over the limit; no more of it is read.
        InvalidRequest: it is no JSON object, or has too many or too deep lists and objects in it.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLarge(f"the request body is over the limit of {limit_bytes} bytes")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    _check_shape(value)
    return value


def _check_shape(body: dict[str, Any]) -> None:
    """Without recursion, so that no nesting is too deep for it; what writes JSON recurses."""
    level: list[Any] = [body]
    depth = count = 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
        if count > MAX_CONTAINERS:
            raise InvalidRequest(f"the body holds more than {MAX_CONTAINERS} lists and objects")
        inner = (part for item in level for part in _values(item))
        level = [part for part in inner if isinstance(part, list | dict)]


def _values(item: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    text: Annotated[str, Field(min_length=1)]
    id: str | None = None
    title: str = ""


class _Options(BaseModel):
    """The `engram` field of a request."""

    model_config = ConfigDict(extra="forbid")
    mode: Mode | None = None
    vector_store_ids: list[str] | None = None
    documents: Annotated[list[_Document], Field(max_length=64)] = []
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
    filters: Filters | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    rewrite_query: bool = True
    expand_tokens: Annotated[int, Field(ge=0, le=100_000)] = 0
    rerank: bool = False
    consistent: bool = False


def chat_question(body: Mapping[str, Any], request_id: str) -> Question:
    """A `/v1/chat/completions` body.

    Raises:
        InvalidRequest: names the field that is missing or malformed.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty list", param="messages")
    for index, message in enumerate(messages):
        check_message(message, f"messages[{index}]")
    return _question(body, request_id, messages=tuple(messages), taken={"messages"})


def completion_question(body: Mapping[str, Any], request_id: str) -> Question:
    """A `/v1/completions` body; one prompt per request."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise InvalidRequest("'prompt' must be a non-empty string", param="prompt")
    question = _question(body, request_id, completion_prompt=prompt, taken={"prompt"})
    return replace(question, endpoint="completions")


def check_message(message: Any, where: str) -> None:
    """Raises InvalidRequest if it is no chat message."""
    if not isinstance(message, dict):
        raise InvalidRequest(f"'{where}' must be an object", param=where)
    if message.get("role") not in ROLES:
        roles = ", ".join(ROLES)
        raise InvalidRequest(f"'{where}.role' must be one of {roles}", param=f"{where}.role")
    content = message.get("content")
    if content is None and message["role"] == "assistant":  # it may hold tool calls alone
        return
    if not isinstance(content, str | list):
        raise InvalidRequest(f"'{where}.content' must be text", param=f"{where}.content")


def _question(
    body: Mapping[str, Any],
    request_id: str,
    *,
    taken: set[str],
    messages: tuple[Mapping[str, Any], ...] = (),
    completion_prompt: str | None = None,
) -> Question:
    model = body.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARS:
        raise InvalidRequest("'model' must name an assistant or model", param="model")
    for flag in ("stream",):
        if not isinstance(body.get(flag, False), bool | None):
            raise InvalidRequest(f"'{flag}' must be true or false", param=flag)
    aside = taken | {"model", "stream", "stream_options", "engram", "user", "metadata", "store"}
    return Question(
        id=request_id,
        model=model,
        messages=messages,
        completion_prompt=completion_prompt,
        sampling={k: v for k, v in body.items() if k not in aside and v is not None},
        options=options_of(body.get("engram")),
        conversation=conversation_of(body),
    )


def conversation_of(body: Mapping[str, Any]) -> str:
    """What a request says of who asks or in which conversation; the widest that it names, so that
    a user's conversations stay together."""
    metadata = body.get("metadata")
    named = dict(metadata) if isinstance(metadata, dict) else {}
    for field, value in (
        ("user", body.get("user")),
        ("user", body.get("safety_identifier")),
        ("conversation", named.get("conversation_id")),
        ("cache", body.get("prompt_cache_key")),
    ):
        if isinstance(value, str) and value:
            return f"{field}:{value}"
    return ""


def validated(model: type[M], value: Any, where: str = "") -> M:
    """`value` as a model; raises InvalidRequest with the path of the field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        path = [part for part in problem["loc"] if part != "[key]"]
        tail = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
        param = f"{where}{tail}".removeprefix(".")[:MAX_PARAM_CHARS]
        raise InvalidRequest(_message(problem, param), param=param or None) from None


def _message(problem: Mapping[str, Any], param: str) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown field '{param}'"
    if problem["type"] == "missing":
        return f"'{param}' is required"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"'{param}': {reason}" if param else reason


def options_of(field: Any) -> Options:
    """The `engram` field; raises InvalidRequest."""
    if field is None:
        return Options()
    if isinstance(field, dict) and field.get("mode") == "auto":
        field = {**field, "mode": None}
    options = validated(_Options, field, "engram")
    stores = options.vector_store_ids
    return Options(
        mode=options.mode,
        vector_store_ids=None if stores is None else tuple(map(VectorStoreId, stores)),
        documents=tuple(
            Document(d.text, d.id or f"document-{n}", d.title)
            for n, d in enumerate(options.documents, 1)
        ),
        max_num_results=options.max_num_results,
        filters=options.filters,
        score_threshold=options.score_threshold,
        rewrite_query=options.rewrite_query,
        expand_tokens=options.expand_tokens,
        rerank=options.rerank,
        consistent=options.consistent,
    )


def wants_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("'stream_options' must be an object", param="stream_options")
    return bool((options or {}).get("include_usage"))


@asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancels the block when the client goes away; the body must have been read before."""
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone or task.uncancel():  # somebody else wants this task to end
            raise
    finally:
        watcher.cancel()
