from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from serving.errors import EngineFailed
from serving.generation.engine import Adapter
from serving.generation.prompt import render_system
from serving.generation.scripted_engine import ScriptedEngine
from serving.types import AdapterId, Delta, Prompt

HELPDESK = Adapter(AdapterId("helpdesk@1"), Path("helpdesk@1"))


def chat(*messages: tuple[str, str], **sampling: Any) -> Prompt:
    said = messages or (("user", "May I park here?"),)
    return Prompt("test", tuple({"role": r, "content": c} for r, c in said), sampling)


async def deltas_of(
    engine: ScriptedEngine, prompt: Prompt, adapter: Adapter | None = None
) -> list[Delta]:
    async with aclosing(engine.generate(prompt, adapter)) as deltas:
        return [delta async for delta in deltas]


async def text_of(engine: ScriptedEngine, prompt: Prompt, adapter: Adapter | None = None) -> str:
    return "".join(delta.text for delta in await deltas_of(engine, prompt, adapter))


def says(*pieces: str | Delta) -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, adapter: pieces)


async def test_by_default_it_quotes_the_question() -> None:
    assert await text_of(ScriptedEngine(), chat()) == "You said: May I park here?"


async def test_by_default_it_quotes_and_cites_the_first_passage() -> None:
    system = render_system("Be brief.", [("Parking", "Only on Sundays."), ("Food", "At noon.")])
    answer = await text_of(ScriptedEngine(), chat(("system", system), ("user", "May I?")))
    assert answer == "Parking: Only on Sundays. [1]"


async def test_by_default_it_names_the_adapter_it_answers_with() -> None:
    assert (await text_of(ScriptedEngine(), chat(), HELPDESK)).startswith("helpdesk@1 says: ")


async def test_every_word_is_a_token_and_a_delta() -> None:
    deltas = await deltas_of(says("one two ", "three"), chat())
    assert [delta.text for delta in deltas] == ["one ", "two ", "three", ""]
    assert deltas[-1].usage is not None
    assert (deltas[-1].usage.prompt_tokens, deltas[-1].usage.completion_tokens) == (4, 3)


async def test_text_that_may_begin_a_stop_string_is_held_back_until_it_is_clear() -> None:
    engine = says("do not ", "st", "ay but ", "st", "op here")
    deltas = await deltas_of(engine, chat(stop="stop"))
    assert "".join(delta.text for delta in deltas) == "do not stay but "
    assert deltas[-1].finish_reason == "stop"


async def test_held_back_text_is_sent_when_the_answer_ends_without_the_stop_string() -> None:
    assert await text_of(says("we never st"), chat(stop="stop")) == "we never st"


async def test_a_script_may_yield_whole_deltas_such_as_tool_calls() -> None:
    call = Delta(extra={"tool_calls": [{"index": 0}]})
    deltas = await deltas_of(says("Let me see. ", call, Delta(finish_reason="tool_calls")), chat())
    assert call in deltas
    assert deltas[-1].finish_reason == "tool_calls"
    assert deltas[-1].usage is not None


async def test_time_passes_on_the_injected_clock() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    engine = ScriptedEngine(lambda prompt, adapter: ["a b c"], ttft_s=0.5, itl_s=0.01, sleep=sleep)
    await deltas_of(engine, chat())
    assert slept == [0.5, 0.01, 0.01, 0.01, 0.01]


async def test_a_scripted_failure_comes_after_its_tokens() -> None:
    engine = ScriptedEngine(lambda prompt, adapter: ["a b c d"], fail_after=2)
    async with aclosing(engine.generate(chat(), None)) as deltas:
        assert [(await anext(deltas)).text for _ in range(2)] == ["a ", "b "]
        with pytest.raises(EngineFailed, match="after 2 tokens"):
            await anext(deltas)
    health = await engine.health()
    assert (health.healthy, health.running) == (True, 0)


async def test_a_dead_engine_fails_its_streams_and_is_not_healthy() -> None:
    engine = ScriptedEngine(endless)
    async with aclosing(engine.generate(chat(max_tokens=100), None)) as deltas:
        await anext(deltas)
        engine.die()
        with pytest.raises(EngineFailed, match="died"):
            await anext(deltas)
    assert not (await engine.health()).healthy


async def test_requests_beyond_the_batch_wait() -> None:
    engine = ScriptedEngine(endless, max_num_seqs=1)
    async with aclosing(engine.generate(chat(), None)) as deltas:
        await anext(deltas)
        second = asyncio.create_task(text_of(engine, chat(max_tokens=2)))
        await asyncio.sleep(0)
        health = await engine.health()
        assert (health.running, health.waiting) == (1, 1)
    assert await second == "on on "
    health = await engine.health()
    assert (health.running, health.waiting) == (0, 0)


async def test_it_remembers_what_it_was_asked_and_which_adapters_it_loaded() -> None:
    engine = ScriptedEngine()
    prompt = chat()
    for _ in range(2):
        async with engine.lease(HELPDESK):
            await deltas_of(engine, prompt, HELPDESK)
    assert list(engine.prompts) == [prompt, prompt]
    assert engine.loads == ["helpdesk@1"]


def endless(prompt: Prompt, adapter: Adapter | None) -> Iterator[str]:
    while True:
        yield "on "
