"""Training files: what is right with them, and for each way to be wrong its own message."""

from __future__ import annotations

from typing import Any

import pytest

from serving.finetune.training_file import MAX_COUNTED, BadFile, Method, read
from tests.finetune.files import chat, chats, jsonl, preference, said

USER = said("Hi", "user")
NESTED = b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def with_line(line: Any, number: int = 11) -> bytes:
    """A good file with one more line; bytes are taken as they are."""
    lines = chats(number - 1)
    return jsonl(*lines) + (line if isinstance(line, bytes) else jsonl(line))


def message(value: Any) -> dict[str, Any]:
    return {"messages": [USER, value]}


SUPERVISED: dict[str, tuple[Any, str]] = {
    "not JSON": (b'{"messages": [}', "line 11: is not JSON: Expecting value (column 15)"),
    "a cut line": (b'{"messages"', "line 11: is not JSON: Expecting ':' delimiter (column 12)"),
    "not UTF-8": (b'{"messages": "\xff"}', "line 11: is not UTF-8 (byte 15)"),
    "too deep": (NESTED, "line 11: cannot be read: nested too deep"),
    "a list": ([1], "line 11: must be a JSON object, not a list"),
    "a number": (7, "line 11: must be a JSON object, not 7"),
    "no messages": ({"tools": []}, "line 11: has no 'messages'"),
    "a foreign field": (chat("a", "b", note=1), "line 11: unknown field 'note'; known: messages"),
    "functions": (chat("a", "b", functions=[]), "'functions' are not supported; write them as"),
    "completions": ({"prompt": "a", "completion": "b"}, "is in the completions format"),
    "a preference": (preference("a", "b", "c"), "such a file needs the method 'dpo'"),
    "no list": ({"messages": {}}, "'messages' must be a list with at least one message"),
    "no message": ({"messages": []}, "'messages' must be a list with at least one message"),
    "a bare text": ({"messages": ["Hi"]}, "'messages[0]' must be an object"),
    "a foreign role": (message(said("a", "bot")), "'messages[1].role' must be one of system"),
    "no role": (message({"content": "a"}), "'messages[1].role' must be one of system"),
    "a foreign part": (message(said("a", mood=1)), "unknown field 'messages[1].mood'"),
    "function_call": (message(said("a", function_call={})), "write it as 'tool_calls'"),
    "no content": (message({"role": "assistant"}), "'messages[1].content' must be text"),
    "empty answer": (message(said("  ")), "'messages[1].content' is empty: there is nothing to"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, said("a")]},
        "'messages[0].content[0]' is not text; only text can be trained",
    ),
    "weight of 2": (message(said("a", weight=2)), "'messages[1].weight' must be 0 or 1"),
    "weight true": (message(said("a", weight=True)), "'messages[1].weight' must be 0 or 1"),
    "user's weight": (
        {"messages": [said("a", "user", weight=1), said("b")]},
        "'messages[0].weight' belongs to assistant messages alone",
    ),
    "all weights 0": (message(said("a", weight=0)), "has no assistant message of weight 1"),
    "no answer": ({"messages": [USER]}, "must end with an assistant message"),
    "ends with user": ({"messages": [USER, said("a"), USER]}, "must end with an assistant message"),
    "begins with answer": ({"messages": [said("a")]}, "begins with an assistant message"),
    "tool without id": (
        {"messages": [USER, said("4", "tool"), said("a")]},
        "'messages[1].tool_call_id' must name the call that this answers",
    ),
    "calls of a user": (
        {"messages": [said("a", "user", tool_calls=[{}]), said("b")]},
        "'messages[0].tool_calls' must be a list, in an assistant message",
    ),
    "broken call": (message(said("a", tool_calls=[{"id": "1"}])), "needs 'name' and 'arguments'"),
    "tools no list": (chat("a", "b", tools={}), "'tools' must be a list"),
    "tool unnamed": (chat("a", "b", tools=[{}]), "'tools[0].function' must be an object with a"),
    "parallel": (chat("a", "b", parallel_tool_calls=1), "'parallel_tool_calls' must be true or"),
    "half a surrogate": (message(said("a\ud800")), "holds half of a surrogate pair"),
}
DPO: dict[str, tuple[Any, str]] = {
    "a chat": (chat("a", "b"), "the method 'dpo' needs 'input' and two outputs"),
    "no input": ({"preferred_output": []}, "line 1: has no 'input'"),
    "input a text": ({"input": "a"}, "'input' must be an object with 'messages'"),
    "input answered": (
        {**preference("a", "b", "c"), "input": chat("a", "b")},
        "'input.messages' must not end with an assistant message",
    ),
    "no preferred": (
        {"input": {"messages": [USER]}, "non_preferred_output": [said("a")]},
        "'preferred_output' must be a list with one assistant message",
    ),
    "two outputs": (
        {**preference("a", "b", "c"), "preferred_output": [said("b"), said("d")]},
        "'preferred_output' must be a list with one assistant message",
    ),
    "output of a user": (
        {**preference("a", "b", "c"), "non_preferred_output": [USER]},
        "'non_preferred_output[0].role' must be 'assistant'",
    ),
    "weighted output": (
        {**preference("a", "b", "c"), "preferred_output": [said("b", weight=1)]},
        "'preferred_output[0].weight' has no meaning in a preference",
    ),
    "the same": (preference("a", "b", "b"), "preferred and the non-preferred output are the same"),
}


def refusal(data: bytes, method: Method = "supervised") -> BadFile:
    with pytest.raises(BadFile) as raised:
        read(data, method)
    return raised.value


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_malformed_line_is_named_with_its_reason(name: str) -> None:
    line, reason = SUPERVISED[name]
    error = refusal(with_line(line))
    assert reason in error.message
    assert [problem.line for problem in error.problems] == [11]
    assert error.code == "invalid_training_file"


@pytest.mark.parametrize("name", DPO)
def test_a_malformed_preference_is_named_with_its_reason(name: str) -> None:
    line, reason = DPO[name]
    error = refusal(jsonl(line), "dpo")
    assert reason in error.message
    assert error.message.startswith("The training file cannot be used. line 1: ")


def test_every_message_is_another() -> None:
    """But where two cases show that one rule holds for both."""
    reasons = [reason for _, reason in [*SUPERVISED.values(), *DPO.values()]]
    assert len(set(reasons)) >= 39


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert refusal(data).message == "The training file cannot be used. It is empty."


def test_ten_examples_are_needed_to_train_and_one_to_validate() -> None:
    assert "It has 9 examples; at least 10 are needed." in refusal(jsonl(*chats(9))).message
    assert len(read(jsonl(*chats(10)), "supervised")) == 10
    assert len(read(jsonl(*chats(1)), "supervised", "validation_file")) == 1


def test_problems_are_listed_up_to_ten_and_the_rest_counted() -> None:
    error = refusal(jsonl(*chats(2), *[{"messages": []}] * 13))
    assert error.message.startswith("The training file has 13 problems. line 3: ")
    assert "line 12: " in error.message and "line 13: " not in error.message
    assert error.message.endswith("; and 3 more")


def test_what_the_format_allows_is_taken() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    rich: dict[str, Any] = {
        "messages": [
            said("Be kind.", "developer"),
            {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "eve"},
            said("Hello", weight=0),
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            said("4", "tool", tool_call_id="1"),
            said("It is 4.", weight=1),
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "parallel_tool_calls": True,
    }
    data = b"\xef\xbb\xbf" + jsonl(*chats(10)).replace(b"\n", b"\r\n") + b"\n" + jsonl(rich)
    examples = read(data, "supervised")
    assert [example.line for example in examples] == [*range(1, 11), 12]
    assert examples[-1].messages == tuple(rich["messages"])
    assert examples[-1].tools == tuple(rich["tools"])


def test_a_preference_keeps_both_answers() -> None:
    [first, *_] = read(jsonl(*[preference("Hi", "Hello!", "What?")] * 10), "dpo")
    assert (first.preferred, first.rejected) == (said("Hello!"), said("What?"))
    assert first.messages == (USER,)


def test_what_no_database_keeps_is_not_in_a_message() -> None:
    """Half a surrogate pair, a NUL and a line end, as the name of a field."""
    line = b'{"messages": [{"role": "user", "content": "a", "x\\ud800\\u0000\\n": 1}]}\n'
    with pytest.raises(BadFile) as raised:
        read(with_line(line), "supervised")
    assert "line 11: unknown field 'messages[0].x\N{REPLACEMENT CHARACTER}" in raised.value.message
    assert raised.value.message.isprintable()


def test_a_file_that_is_wrong_throughout_is_not_read_to_its_end() -> None:
    with pytest.raises(BadFile) as raised:
        read(b"x\n" * 100_000, "supervised")
    assert len(raised.value.problems) == MAX_COUNTED
    assert raised.value.message.startswith("The training file has at least 1000 problems. line 1:")
