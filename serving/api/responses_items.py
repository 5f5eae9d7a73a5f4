"""OpenAI's items: `input` as it was sent becomes items with ids, items become chat messages.

An item's id holds the id of the response it belongs to, so that a reference finds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from serving.errors import InvalidRequest
from serving.types import Message

Item = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
TEXT_OF = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
MAX_ID_CHARS = 128
_ID = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{4}")


def response_id(request_id: str) -> str:
    return request_id.replace("req-", "resp_")


def item_id(kind: str, response: str, number: int) -> str:
    """`msg_…`, `fc_…`: unique, and says which response the item is from."""
    return f"{kind}_{response.removeprefix('resp_')}{number:04x}"


def response_of(item: str) -> str | None:
    """The response that an item of this id belongs to, if it is one of ours."""
    found = _ID.fullmatch(item)
    return f"resp_{found[1]}" if found else None


def read_input(value: Any, response: str) -> list[Item]:
    """The request's `input` as items; references stay references.

    Raises:
        InvalidRequest: names the part that is malformed or not supported.
    """
    if isinstance(value, str) and value:
        value = [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise InvalidRequest("'input' must be text or a list of items, not empty", param="input")
    return [_item(item, f"input[{n}]", response, n) for n, item in enumerate(value)]


def _item(item: Any, where: str, response: str, number: int) -> Item:
    if not isinstance(item, dict):
        raise InvalidRequest(f"'{where}' must be an object", param=where)
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        known = ", ".join(_READ)
        raise InvalidRequest(
            f"'{where}.type' is not supported; use one of {known}", param=f"{where}.type"
        )
    prefix, reader = read
    given = item.get("id")
    if given is not None and (not isinstance(given, str) or len(given) > MAX_ID_CHARS):
        raise InvalidRequest(f"'{where}.id' must be an item's id", param=f"{where}.id")
    return {"id": given or item_id(prefix, response, number), "type": kind, **reader(item, where)}


def _message(item: Mapping[str, Any], where: str) -> Item:
    role = item.get("role")
    if role not in ROLES:
        roles = ", ".join(ROLES)
        raise InvalidRequest(f"'{where}.role' must be one of {roles}", param=f"{where}.role")
    kind: Item = {"type": "input_text"}
    if role == "assistant":
        kind = {"type": "output_text", "annotations": []}
    texts = _content(item.get("content"), f"{where}.content")
    return {"role": role, "status": "completed", "content": [{**kind, "text": t} for t in texts]}


def _call(item: Mapping[str, Any], where: str) -> Item:
    fields = {name: _string(item, name, where) for name in ("call_id", "name", "arguments")}
    return {**fields, "status": "completed"}


def _call_output(item: Mapping[str, Any], where: str) -> Item:
    output = "\n".join(_content(item.get("output"), f"{where}.output"))
    return {"call_id": _string(item, "call_id", where), "output": output, "status": "completed"}


def _file_search(item: Mapping[str, Any], where: str) -> Item:
    queries = item.get("queries")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise InvalidRequest(
            f"'{where}.queries' must be a list of strings", param=f"{where}.queries"
        )
    return {"queries": queries, "status": "completed", "results": None}


def _reasoning(_item: Mapping[str, Any], _where: str) -> Item:
    """Kept for the record; a model does not read its earlier thoughts."""
    return {"summary": [], "status": "completed"}


def _reference(item: Mapping[str, Any], where: str) -> Item:
    return {"id": _string(item, "id", where)}


_READ: Mapping[str, tuple[str, Callable[[Mapping[str, Any], str], Item]]] = {
    "message": ("msg", _message),
    "function_call": ("fc", _call),
    "function_call_output": ("fco", _call_output),
    "file_search_call": ("fs", _file_search),
    "reasoning": ("rs", _reasoning),
    "item_reference": ("ref", _reference),
}


def _string(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or (not value and name != "arguments"):
        raise InvalidRequest(f"'{where}.{name}' must be a string", param=f"{where}.{name}")
    return value


def _content(content: Any, where: str) -> list[str]:
    """The texts of a string or of a list of parts."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be text or a list of parts", param=where)
    return [_part(part, f"{where}[{n}]") for n, part in enumerate(content)]


def _part(part: Any, where: str) -> str:
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{where}' must be an object", param=where)
    kind = part.get("type")
    field = TEXT_OF.get(kind) if isinstance(kind, str) else None
    if field is None:
        known = ", ".join(TEXT_OF)
        raise InvalidRequest(
            f"'{where}.type' is not supported; use one of {known}", param=f"{where}.type"
        )
    text = part.get(field)
    if not isinstance(text, str):
        raise InvalidRequest(f"'{where}.{field}' must be a string", param=f"{where}.{field}")
    return text


def read_references(items: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The ids of the items referred to, each with the response that it belongs to.

    Raises:
        InvalidRequest: one is named twice: a short request would become a long conversation.
    """
    wanted: dict[str, str] = {}
    for number, item in enumerate(items):
        if item["type"] != "item_reference":
            continue
        if item["id"] in wanted:
            raise InvalidRequest("an item is referred to twice", param=f"input[{number}].id")
        wanted[item["id"]] = response_of(item["id"]) or ""
    return wanted


def without_passages(response: Mapping[str, Any]) -> dict[str, Any]:
    """As it is kept: results name their files, whose text goes when they are deleted."""
    return {**response, "output": [_without_texts(item) for item in response["output"]]}


def _without_texts(item: Item) -> Item:
    results = item.get("results")
    return {**item, "results": [{**r, "text": None} for r in results]} if results else item


def check_calls(earlier: Iterable[Mapping[str, Any]], given: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidRequest if `given` holds the output of a call that nobody made."""
    calls = {item["call_id"] for item in earlier if item["type"] == "function_call"}
    for number, item in enumerate(given):
        if item["type"] == "function_call":
            calls.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in calls:
            raise InvalidRequest(
                f"there is no function call '{item['call_id']}' before its output",
                param=f"input[{number}].call_id",
            )


def chat_messages(items: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation as the engine reads it; calls join the assistant's turn they are part of."""
    messages: list[dict[str, Any]] = []
    for item in items:
        match item["type"]:
            case "message":
                text = "\n".join(part[TEXT_OF[part["type"]]] for part in item["content"])
                messages.append({"role": item["role"], "content": text})
            case "function_call":
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                messages[-1].setdefault("tool_calls", []).append(_tool_call(item))
            case "function_call_output":
                output = {"tool_call_id": item["call_id"], "content": item["output"]}
                messages.append({"role": "tool", **output})
    return tuple(messages)


def _tool_call(item: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": item["name"], "arguments": _arguments(item["arguments"])}
    return {"id": item["call_id"], "type": "function", "function": function}


def _arguments(text: str) -> str:
    """Engines read an object; what else a model wrote, or was cut off, it may see as a string."""
    try:
        known = isinstance(orjson.loads(text or "{}"), dict)
    except orjson.JSONDecodeError:
        known = False
    return text if known else orjson.dumps({"arguments": text}).decode()
