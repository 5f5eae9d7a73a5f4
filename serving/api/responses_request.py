"""Reads the body of `/v1/responses`: every field is checked, understood or refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import time
from typing import Annotated, Any, Literal

from pydantic import Field

from serving.api.bodies import Body, Metadata
from serving.api.request import MAX_MODEL_CHARS, conversation_of, options_of, validated
from serving.api.responses_items import Item, chat_messages, read_input, response_id
from serving.api.responses_tools import Tools, read_tools
from serving.errors import InvalidRequest, unknown_field
from serving.types import Options, Question

RESULTS, LOGPROBS = "file_search_call.results", "message.output_text.logprobs"
ELSEWHERE = frozenset({"input", "tools", "tool_choice", "engram"})  # read by functions of their own
NAMING = {"user", "safety_identifier", "metadata", "prompt_cache_key"}
UNSUPPORTED = frozenset(
    {
        "access_programs",
        "background",
        "background_options",
        "context_management",
        "conversation",
        "image",
        "moderation",
        "prompt",
        "prompt_cache_options",
    }
)


class _Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class _Text(Body):
    format: _Format = _Format(type="text")
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(Body):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class _StreamOptions(Body):
    include_obfuscation: Literal[False] | None = None  # frames are not padded


class _Body(Body):
    """The fields that are not read elsewhere, as in OpenAI's API."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL_CHARS)]
    previous_response_id: str | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None  # of built-in tools: one is made
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: list[Literal["file_search_call.results", "message.output_text.logprobs"]] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    metadata: Metadata | None = None
    # Accepted and repeated in the response; the first three, and `metadata`, name a conversation.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: Literal["auto", "default"] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a response. `input` holds its items as sent, references included."""

    request_id: str
    body: _Body
    input: Sequence[Item]
    tools: Tools
    options: Options

    @property
    def id(self) -> str:
        return response_id(self.request_id)

    @property
    def stored(self) -> bool:
        return self.body.store is not False

    def includes(self, what: str) -> bool:
        return what in (self.body.include or ())

    def question(self, conversation: Iterable[Mapping[str, Any]]) -> Question:
        """The request as the request path sees it, at the end of this conversation."""
        messages = chat_messages(conversation)
        if self.body.instructions:
            messages = ({"role": "system", "content": self.body.instructions}, *messages)
        sampling = {
            "temperature": self.body.temperature,
            "top_p": self.body.top_p,
            "max_completion_tokens": self.body.max_output_tokens,
            "reasoning_effort": self.body.reasoning.effort if self.body.reasoning else None,
            "response_format": _response_format(self.body.text),
            **self._logprobs(),
            **self.tools.sampling(),
        }
        if self.tools.functions:
            sampling["parallel_tool_calls"] = self.body.parallel_tool_calls
        return Question(
            id=self.request_id,
            model=self.body.model,
            messages=messages,
            sampling={name: value for name, value in sampling.items() if value is not None},
            options=self.options,
            endpoint="responses",
            conversation=conversation_of(self.body.model_dump(include=NAMING)),
        )

    def _logprobs(self) -> dict[str, Any]:
        top = self.body.top_logprobs
        wanted = self.includes(LOGPROBS) or bool(top)
        return {"logprobs": True, "top_logprobs": top or 0} if wanted else {}

    def response(self) -> dict[str, Any]:
        """OpenAI's `response` before anything was generated."""
        body = self.body
        text = body.text or _Text()
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(time()),
            "status": "in_progress",
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "metadata": body.metadata or {},
            "model": body.model,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "prompt_cache_key": body.prompt_cache_key,
            "prompt_cache_retention": body.prompt_cache_retention,
            "reasoning": {"effort": body.reasoning and body.reasoning.effort, "summary": None},
            "safety_identifier": body.safety_identifier,
            "service_tier": "default",
            "store": self.stored,
            "temperature": body.temperature,
            "text": {
                "format": text.format.model_dump(by_alias=True, exclude_none=True),
                "verbosity": text.verbosity,
            },
            "tool_choice": self.tools.choice,
            "tools": self.tools.body,
            "top_logprobs": body.top_logprobs or 0,
            "top_p": body.top_p,
            "truncation": body.truncation or "disabled",
            "usage": None,
            "user": body.user,
        }


def read_request(fields: Mapping[str, Any], request_id: str) -> Asked:
    """Raises InvalidRequest, naming the field that is missing, malformed or not supported."""
    known = _Body.model_fields.keys() | ELSEWHERE
    for name, value in fields.items():
        if name in UNSUPPORTED:
            if value:
                raise InvalidRequest(f"'{name}' is not supported", param=name)
        elif name not in known:
            raise unknown_field(name, known)
    given = {k: v for k, v in fields.items() if k not in ELSEWHERE | UNSUPPORTED}
    body = validated(_Body, given)
    tools = read_tools(fields.get("tools"), fields.get("tool_choice"))
    options = tools.options(options_of(fields.get("engram")))
    return Asked(
        request_id=request_id,
        body=body,
        input=read_input(fields.get("input"), response_id(request_id)),
        tools=tools,
        options=replace(options, truncate=body.truncation == "auto"),
    )


def _response_format(text: _Text | None) -> dict[str, Any] | None:
    """Chat's `response_format`."""
    form = text.format if text else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "json_object"}
    for name, value in (("name", form.name), ("schema", form.schema_)):
        if value is None:
            raise InvalidRequest(f"'text.format.{name}' is missing", param=f"text.format.{name}")
    schema = form.model_dump(by_alias=True, exclude_none=True, exclude={"type"})
    return {"type": "json_schema", "json_schema": schema}
