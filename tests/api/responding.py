"""What the tests of the Responses API share: a model that calls tools, and strict reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.adapters.adapter import Adapter
from serving.generation.scripted_engine import echo
from serving.types import Delta, Prompt, message_text
from tests.api.conftest import Gateway, scripted, serve
from tests.tiny_model import write_adapter

LEAVE = "# Leave\n\n## Days\n\nEmployees of Larkfield receive 27 days of leave every year.\n"
QUESTION = "How many days of leave do employees of Larkfield receive every year?"
TEXT = "Leave > Days: Employees of Larkfield receive 27 days of leave every year. [1]"
ASK: dict[str, Any] = {"model": "helpdesk", "input": QUESTION}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a town.",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    "strict": True,
}


LIKELY = {"content": [{"token": "{", "logprob": -0.1, "bytes": [123], "top_logprobs": []}]}


def call(index: int, arguments: str, **begins: Any) -> Delta:
    return Delta(extra=tool_calls(index, arguments, **begins))


def tool_calls(index: int, arguments: str, **begins: Any) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    if begins:
        function["name"] = begins["name"]
        begins = {"id": begins["id"], "type": "function"}
    return {"tool_calls": [{"index": index, **begins, "function": function}]}


SAYS: dict[str, list[str | Delta]] = {
    "think": [Delta(extra={"reasoning": "Let me "}), Delta(extra={"reasoning": "think."}), "Done."],
    "likely": [
        Delta(extra=tool_calls(0, "", id="call_1", name="weather"), logprobs=LIKELY),
        Delta(extra=tool_calls(0, "{}"), logprobs=LIKELY),
        Delta(finish_reason="tool_calls"),
    ],
    "say nothing": [Delta(finish_reason="stop")],
    "forbidden": [Delta("I", finish_reason="content_filter")],
}


def script(prompt: Prompt, adapter: Adapter | None) -> Iterator[str | Delta]:
    """What a model that calls tools, thinks and obeys schemas does, word by word."""
    text = message_text(prompt.messages[-1])
    if prompt.messages[-1]["role"] == "tool":
        yield f"The tool says {text}."
    elif "weather" in text and prompt.sampling.get("tool_choice") != "none":
        yield from calls(together=prompt.sampling.get("parallel_tool_calls") is not False)
    elif "history" in text:
        yield json.dumps([[m["role"], message_text(m)] for m in prompt.messages])
    elif "response_format" in prompt.sampling:
        yield '{"days": 27}'
    else:
        yield from SAYS.get(text) or echo(prompt, adapter)


def calls(*, together: bool) -> Iterator[str | Delta]:
    yield "Let me look."
    yield call(0, "", id="call_1", name="weather")
    yield call(0, '{"town": ')
    yield call(0, '"Paris"}')
    if together:
        yield call(1, '{"town": "Rome"}', id="call_2", name="weather")
    yield Delta(finish_reason="tool_calls")


@contextmanager
def responding(data: Path, **sections: Any) -> Iterator[Gateway]:
    """A gateway whose model is the script, with one document in the assistant's store."""
    engine = {"kind": "scripted", "extra_args": {"script": script}}
    settings = scripted(data, **{"engine": engine, **sections})
    write_adapter(settings.adapters / "acme" / "tuned@1")
    with serve(settings) as gateway:
        client = gateway.client
        file = client.files.create(file=("leave.md", LEAVE.encode()), purpose="assistants")
        attached = client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=gateway.store, attributes={"team": "people"}
        )
        assert attached.status == "completed"
        yield gateway


def create(gateway: Gateway, **fields: Any) -> Response:
    """One response, whole and streamed, which say the same; returns the whole one, checked."""
    body = ASK | fields
    sent = gateway.http.post("/v1/responses", json=body)
    assert sent.status_code == 200, sent.text
    whole = Response.model_validate_json(sent.content)
    *_, last = events(gateway, **fields)
    assert comparable(last["response"]) == comparable(sent.json())
    return whole


def comparable(response: dict[str, Any]) -> dict[str, Any]:
    """Without what differs between two equal answers: ids, times, timings."""
    own = response["id"].removeprefix("resp_")
    engram = {**response["engram"], "timings_ms": None}
    text = json.dumps({**response, "created_at": 0, "completed_at": 0, "engram": engram})
    value: dict[str, Any] = json.loads(text.replace(own, "ID"))
    return value


def events(gateway: Gateway, **fields: Any) -> list[dict[str, Any]]:
    """A stream's events, each of which the SDK's type reads and writes again as it was."""
    raw = gateway.http.post("/v1/responses", json=ASK | fields | {"stream": True})
    assert raw.status_code == 200, raw.text
    assert raw.headers["content-type"].startswith("text/event-stream")
    found = []
    for frame in raw.text.strip().split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        parsed = EVENT.validate_python(event)
        assert name == f"event: {parsed.type}" == f"event: {event['type']}"
        assert parsed.to_dict(mode="json") == event
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    """Event types, with neighbours of one type said once."""
    types = [event["type"].removeprefix("response.") for event in found]
    return [kind for n, kind in enumerate(types) if n == 0 or types[n - 1] != kind]
