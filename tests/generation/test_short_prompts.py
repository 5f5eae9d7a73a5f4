"""Short prompts are rendered at once, and to the same tokens as in vLLM's thread."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from serving.generation import short_prompts
from serving.generation.short_prompts import AT_ONCE_CHARS, MESSAGE_CHARS, is_short, is_small
from serving.generation.vllm_engine import VllmEngine
from serving.types import Prompt

PICTURE = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "Hi"}, True),
        ({"role": "user", "content": "x" * (AT_ONCE_CHARS - MESSAGE_CHARS)}, True),
        ({"role": "user", "content": "x" * AT_ONCE_CHARS}, False),
        ({"role": "user", "content": "Hi", "name": "x" * AT_ONCE_CHARS}, False),
        ({"role": "user", "content": PICTURE}, False),
        ({"role": "assistant", "content": None}, False),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, False),
    ],
)
def test_only_little_text_is_short(message: dict[str, Any], expected: bool) -> None:
    assert is_short([message]) is expected


def test_the_length_is_that_of_all_messages() -> None:
    half = {"role": "user", "content": "x" * (AT_ONCE_CHARS // 2 + 1)}
    assert is_short([half])
    assert not is_short([half, half])


def test_many_empty_messages_are_not_short() -> None:
    assert not is_short([{"role": "user", "content": ""}] * 1000)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, True),
        ({"enable_thinking": False, "tools": None, "date_string": "26 July 2026"}, True),
        ({"date_string": "x" * 1000}, False),
        ({"tools": [{}]}, False),
        ({"documents": [{"text": "x"}]}, False),
    ],
)
def test_what_a_template_is_given_must_be_small(variables: Any, expected: bool) -> None:
    assert is_small(variables) is expected


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
async def test_a_prompt_has_the_same_tokens_either_way(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Any = vllm_engine._runtime
    renderer = runtime._llm.renderer
    at_once = Mock(wraps=renderer.render_chat)
    monkeypatch.setattr(renderer, "render_chat", at_once)
    prompt = Prompt("test", ({"role": "user", "content": "Are you sure?"},), {"max_tokens": 4})
    short = (await runtime._render(prompt)).input["prompt_token_ids"]
    assert at_once.call_count == 1
    monkeypatch.setattr(short_prompts, "AT_ONCE_CHARS", 0)
    assert (await runtime._render(prompt)).input["prompt_token_ids"] == short
    assert at_once.call_count == 1  # that one went to the thread
