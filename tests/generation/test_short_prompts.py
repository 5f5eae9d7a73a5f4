"""Short prompts are rendered at once, and to the same tokens as in vLLM's thread."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from unittest.mock import Mock

import pytest

from serving.generation import short_prompts
from serving.generation.short_prompts import AT_ONCE_CHARS, is_short
from serving.generation.vllm_engine import VllmEngine
from serving.types import Prompt

PICTURE = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "Hi"}, True),
        ({"role": "user", "content": "x" * AT_ONCE_CHARS}, True),
        ({"role": "user", "content": "x" * (AT_ONCE_CHARS + 1)}, False),
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


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
async def test_a_prompt_has_the_same_tokens_either_way(
    vllm_engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Any = vllm_engine._runtime
    renderer = runtime._llm.renderer
    at_once = Mock(wraps=renderer.render_chat)
    monkeypatch.setattr(renderer, "render_chat", at_once)
    short = await _answer(vllm_engine)
    assert at_once.call_count == 1
    monkeypatch.setattr(short_prompts, "AT_ONCE_CHARS", 0)
    assert await _answer(vllm_engine) == short
    assert at_once.call_count == 1  # that one went to the thread


async def _answer(engine: VllmEngine) -> tuple[str, int]:
    """Its text, and how many tokens the prompt had."""
    question = {"role": "user", "content": "Are you sure?"}
    prompt = Prompt("test", (question,), {"temperature": 0, "max_tokens": 4})
    async with aclosing(engine.generate(prompt, None)) as deltas:
        parts = [delta async for delta in deltas]
    usage = parts[-1].usage
    assert usage is not None
    return "".join(part.text for part in parts), usage.prompt_tokens
