"""One message of a training file, checked as OpenAI's chat format has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
FIELDS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal"}


class Malformed(Exception):
    """Why a line cannot be used, to be read after its number."""


def check_conversation(value: Any, where: str) -> tuple[Message, ...]:
    """The messages; the first assistant message answers one before it."""
    if not isinstance(value, list) or not value:
        raise Malformed(f"'{where}' must be a list with at least one message")
    for index, message in enumerate(value):
        _check_message(message, f"{where}[{index}]")
    if value[0]["role"] == "assistant":
        raise Malformed(f"'{where}' begins with an assistant message: it answers nothing")
    return tuple(value)


def check_output(value: Any, where: str) -> Message:
    """The one assistant message of a preferred or non-preferred output."""
    if not isinstance(value, list) or len(value) != 1:
        raise Malformed(f"'{where}' must be a list with one assistant message")
    _check_message(value[0], f"{where}[0]")
    if value[0]["role"] != "assistant":
        raise Malformed(f"'{where}[0].role' must be 'assistant'")
    if "weight" in value[0]:
        raise Malformed(f"'{where}[0].weight' has no meaning in a preference")
    message: Message = value[0]
    return message


def check_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Malformed("'tools' must be a list")
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Malformed(f"'tools[{index}].function' must be an object with a 'name'")
    return tuple(value)


def _check_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise Malformed(f"'{where}' must be an object")
    role = message.get("role")
    if role not in ROLES:
        raise Malformed(f"'{where}.role' must be one of {', '.join(ROLES)}")
    if unknown := message.keys() - FIELDS:
        name = min(unknown)
        hint = "; write it as 'tool_calls'" if name == "function_call" else ""
        raise Malformed(f"unknown field '{where}.{name[:64]}'{hint}")
    _check_weight(message, where)
    _check_calls(message, where)
    _check_content(message, where)


def _check_weight(message: Mapping[str, Any], where: str) -> None:
    if "weight" not in message:
        return
    if message["role"] != "assistant":
        raise Malformed(f"'{where}.weight' belongs to assistant messages alone")
    weight = message["weight"]
    if isinstance(weight, bool) or weight not in (0, 1):
        raise Malformed(f"'{where}.weight' must be 0 or 1")


def _check_calls(message: Mapping[str, Any], where: str) -> None:
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise Malformed(f"'{where}.tool_call_id' must name the call that this answers")
    calls = message.get("tool_calls")
    if calls is None:
        return
    if message["role"] != "assistant" or not isinstance(calls, list) or not calls:
        raise Malformed(f"'{where}.tool_calls' must be a list, in an assistant message")
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        parts = function if isinstance(function, dict) else {}
        if not (isinstance(parts.get("name"), str) and isinstance(parts.get("arguments"), str)):
            raise Malformed(
                f"'{where}.tool_calls[{index}].function' needs 'name' and 'arguments' as text"
            )


def _check_content(message: Mapping[str, Any], where: str) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant" and message.get("tool_calls"):
        return
    text = _text(content, where)
    if not text.strip() and message["role"] == "assistant":
        raise Malformed(f"'{where}.content' is empty: there is nothing to learn")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed(f"'{where}.content' holds half of a surrogate pair") from None


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Malformed(f"'{where}.content' must be text")
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text":
            raise Malformed(f"'{where}.content[{index}]' is not text; only text can be trained")
        if not isinstance(part.get("text"), str):
            raise Malformed(f"'{where}.content[{index}].text' must be text")
    return "\n".join(part["text"] for part in content)
