"""Reads a training file: JSONL in OpenAI's chat or preference format, line by line.

Every line is checked, so that all that is wrong is said at once, each problem with its line and
the reason. Knows the format, not the model: lengths and templates are `rendering.py`'s.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.finetune.message_format import Malformed, check_conversation, check_output, check_tools
from serving.types import Message

MIN_EXAMPLES = 10
MAX_SHOWN = 10  # problems in one message
MAX_COUNTED = 1_000  # after so many the rest of a file is not read
Method = Literal["supervised", "dpo"]
Param = Literal["training_file", "validation_file"]


@dataclass(frozen=True, slots=True)
class Example:
    """One line. Supervised: `messages` ends with the answer. Preferences: it ends with what is
    answered, and `preferred` and `rejected` are the two answers."""

    line: int
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    preferred: Message | None = None
    rejected: Message | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line; line 0 is the file itself."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


class BadFile(Exception):
    """The file cannot be trained on; `message` names the lines and reasons."""

    def __init__(self, param: Param, problems: Sequence[Problem]) -> None:
        self.param = param
        self.code = f"invalid_{param}"
        self.problems = tuple(problems)
        self.message = _printable(_listed(param.replace("_", " "), problems))
        super().__init__(self.message)


def _listed(name: str, problems: Sequence[Problem]) -> str:
    shown = "; ".join(map(str, problems[:MAX_SHOWN]))
    if len(problems) == 1:
        return f"The {name} cannot be used. {shown}"
    rest = len(problems) - MAX_SHOWN
    more = f"; and {rest} more" if rest > 0 else ""
    least = "at least " if len(problems) >= MAX_COUNTED else ""
    return f"The {name} has {least}{len(problems)} problems. {shown}{more}"


def _printable(message: str) -> str:
    """A name that a line made up may hold what no database keeps."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in message)


def read(data: bytes, method: Method, param: Param = "training_file") -> list[Example]:
    """The file's examples.

    Raises:
        BadFile: lists the lines that are wrong, or says what is wrong with the whole.
    """
    if not data.strip():
        raise BadFile(param, [Problem(0, "It is empty.")])
    parse = _supervised if method == "supervised" else _preference
    examples, problems = [], []
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        if not line.strip():
            continue
        try:
            examples.append(_example(number, line, parse))
        except Malformed as error:
            problems.append(Problem(number, str(error)))
            if len(problems) == MAX_COUNTED:
                break
    if problems:
        raise BadFile(param, problems)
    if param == "training_file" and len(examples) < MIN_EXAMPLES:
        reason = f"It has {len(examples)} examples; at least {MIN_EXAMPLES} are needed."
        raise BadFile(param, [Problem(0, reason)])
    return examples


def objection(value: dict[str, Any], method: Method) -> str | None:
    """Why a line that holds this would be refused, whatever the model; None if it would not."""
    try:
        (_supervised if method == "supervised" else _preference)(0, value)
    except Malformed as error:
        return str(error)
    return None


def _example(number: int, line: bytes, parse: Callable[[int, dict[str, Any]], Example]) -> Example:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"is not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError):
        raise Malformed("cannot be read: nested too deep, or a number too long") from None
    if not isinstance(value, dict):
        raise Malformed(f"must be a JSON object, not {_kind(value)}")
    return parse(number, value)


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else json.dumps(value)[:20]


def _supervised(number: int, value: dict[str, Any]) -> Example:
    if "input" in value or "preferred_output" in value:
        raise Malformed("holds a preference; such a file needs the method 'dpo'")
    if "prompt" in value or "completion" in value:
        raise Malformed("is in the completions format; write 'messages' as in a chat request")
    _check_fields(value, "messages", "tools", "parallel_tool_calls")
    messages = check_conversation(value["messages"], "messages")
    if messages[-1]["role"] != "assistant":
        raise Malformed("must end with an assistant message: there is no answer to learn")
    answers = [message for message in messages if message["role"] == "assistant"]
    if all(message.get("weight", 1) == 0 for message in answers):
        raise Malformed("has no assistant message of weight 1: there is nothing to learn")
    return Example(number, messages, check_tools(value.get("tools")))


def _preference(number: int, value: dict[str, Any]) -> Example:
    if "messages" in value:
        raise Malformed("holds a chat; the method 'dpo' needs 'input' and two outputs")
    _check_fields(value, "input", "preferred_output", "non_preferred_output")
    given = value["input"]
    if not isinstance(given, dict):
        raise Malformed("'input' must be an object with 'messages'")
    _check_fields(given, "messages", "tools", "parallel_tool_calls", within="input.")
    messages = check_conversation(given["messages"], "input.messages")
    if messages[-1]["role"] == "assistant":
        raise Malformed("'input.messages' must not end with an assistant message")
    preferred = check_output(value.get("preferred_output"), "preferred_output")
    rejected = check_output(value.get("non_preferred_output"), "non_preferred_output")
    if preferred == rejected:
        raise Malformed("the preferred and the non-preferred output are the same")
    return Example(number, messages, check_tools(given.get("tools")), preferred, rejected)


def _check_fields(value: dict[str, Any], first: str, *others: str, within: str = "") -> None:
    if first not in value:
        raise Malformed(f"has no '{within}{first}'")
    known = (first, *others)
    if "functions" in value:
        raise Malformed("'functions' are not supported; write them as 'tools'")
    if unknown := value.keys() - set(known):
        raise Malformed(f"unknown field '{within}{min(unknown)[:64]}'; known: {', '.join(known)}")
    if not isinstance(value.get("parallel_tool_calls", True), bool):
        raise Malformed(f"'{within}parallel_tool_calls' must be true or false")
