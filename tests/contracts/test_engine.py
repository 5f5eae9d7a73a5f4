"""What holds for every engine: the scripted one is the oracle of the real one's behaviour."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from serving.adapters.folders import Folders
from serving.errors import AdapterNotReady, InvalidRequest, PromptTooLong
from serving.generation.engine import Adapter, Engine
from serving.generation.scripted_engine import ScriptedEngine
from serving.types import AdapterId, Delta, Prompt, TenantId
from tests.tiny_model import CONTEXT, write_adapter

pytestmark = pytest.mark.asyncio(loop_scope="session")


def tale(prompt: Prompt, adapter: Adapter | None) -> Iterator[str]:
    """Goes on until it is stopped."""
    return (f"{adapter.id if adapter else 'base'} {number} " for number in count())


@pytest_asyncio.fixture(loop_scope="session")
async def scripted_engine() -> AsyncIterator[ScriptedEngine]:
    engine = ScriptedEngine(tale, max_model_len=CONTEXT, max_num_seqs=8, max_loras=2)
    async with engine:
        yield engine


@pytest.fixture(params=["scripted", pytest.param("vllm", marks=pytest.mark.timeout(300))])
def engine(request: pytest.FixtureRequest) -> Engine:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine


def chat(text: str = "Tell me a tale", /, **sampling: Any) -> Prompt:
    sampling = {"temperature": 0, "ignore_eos": True, "max_tokens": 24} | sampling
    return Prompt("test", ({"role": "user", "content": text},), sampling)


async def deltas_of(engine: Engine, prompt: Prompt, adapter: Adapter | None = None) -> list[Delta]:
    async with aclosing(engine.generate(prompt, adapter)) as deltas:
        return [delta async for delta in deltas]


async def text_of(engine: Engine, prompt: Prompt, adapter: Adapter | None = None) -> str:
    return "".join(delta.text for delta in await deltas_of(engine, prompt, adapter))


def an_adapter(folder: Path, name: str, seed: int = 1) -> Adapter:
    path = write_adapter(folder / f"{name}@1", seed=seed)
    return Adapter(AdapterId(path.name), path)


async def until_idle(engine: Engine, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (health := await engine.health()).running or health.waiting:
        assert time.monotonic() < deadline, f"still {health}"
        await asyncio.sleep(0.01)


async def test_an_answer_streams_before_it_is_finished(engine: Engine) -> None:
    async with aclosing(engine.generate(chat(max_tokens=400), None)) as deltas:
        first = await anext(deltas)
        assert first.text
        assert first.finish_reason is None
        health = await engine.health()
        assert (health.healthy, health.running) == (True, 1)
    await until_idle(engine, within_s=1)


async def test_only_the_last_delta_has_the_reason_and_the_usage(engine: Engine) -> None:
    *body, last = await deltas_of(engine, chat(max_tokens=24))
    assert last.finish_reason == "length"
    assert last.usage is not None
    assert last.usage.completion_tokens == 24
    assert last.usage.prompt_tokens >= engine.count_tokens("Tell me a tale") > 0
    assert all(delta.finish_reason is None and delta.usage is None for delta in body)


async def test_without_max_tokens_the_answer_may_fill_the_context(engine: Engine) -> None:
    *_, last = await deltas_of(engine, chat(max_tokens=None))
    assert last.usage is not None
    assert last.usage.prompt_tokens + last.usage.completion_tokens == CONTEXT


async def test_max_completion_tokens_counts_like_max_tokens(engine: Engine) -> None:
    *_, last = await deltas_of(engine, chat(max_tokens=None, max_completion_tokens=5))
    assert last.usage is not None
    assert last.usage.completion_tokens == 5


async def test_a_stop_string_ends_the_answer_and_is_not_in_it(engine: Engine) -> None:
    whole = await text_of(engine, chat(max_tokens=48))
    at = next(i for i in range(12, len(whole)) if whole[i : i + 3].isascii())
    stop = whole[at : at + 3]
    deltas = await deltas_of(engine, chat(max_tokens=48, stop=["never said", stop]))
    assert "".join(delta.text for delta in deltas) == whole.partition(stop)[0]
    assert deltas[-1].finish_reason == "stop"


async def test_the_same_seed_gives_the_same_answer(engine: Engine) -> None:
    prompt = chat(temperature=1, seed=7)
    assert await text_of(engine, prompt) == await text_of(engine, prompt)


async def test_every_choice_streams_under_its_index_and_ends(engine: Engine) -> None:
    deltas = await deltas_of(engine, chat(n=2, temperature=1, seed=1, max_tokens=6))
    ends = [delta for delta in deltas if delta.finish_reason]
    assert sorted(delta.index for delta in ends) == [0, 1]
    assert [delta.usage is not None for delta in ends] == [False, True]
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens == 12


async def test_chat_logprobs_have_openais_shape(engine: Engine) -> None:
    deltas = await deltas_of(engine, chat(max_tokens=6, logprobs=True, top_logprobs=1))
    tokens = [token for delta in deltas for token in (delta.logprobs or {})["content"]]
    assert len(tokens) == 6
    for token in tokens:
        assert token["logprob"] <= 0
        assert bytes(token["bytes"]).decode() == token["token"]
        assert [set(top) for top in token["top_logprobs"]] == [{"token", "logprob", "bytes"}]
        assert token["top_logprobs"][0]["logprob"] >= token["logprob"]


async def test_completion_logprobs_have_openais_shape_and_running_offsets(engine: Engine) -> None:
    sampling = {"max_tokens": 6, "logprobs": 1, "temperature": 0, "ignore_eos": True}
    deltas = await deltas_of(engine, Prompt("test", (), sampling, "Once upon a time"))
    parts = [delta.logprobs for delta in deltas if delta.logprobs]
    tokens = [token for part in parts for token in part["tokens"]]
    offsets = [offset for part in parts for offset in part["text_offset"]]
    assert len(tokens) == 6
    assert offsets == [len("".join(tokens[:i])) for i in range(6)]
    assert all(len(part["token_logprobs"]) == len(part["top_logprobs"]) for part in parts)


async def test_a_completion_continues_text_or_tokens(engine: Engine) -> None:
    for prompt in ("Once upon a time", (40, 41, 42)):
        sampling = {"max_tokens": 4, "ignore_eos": True}
        *_, last = await deltas_of(engine, Prompt("test", (), sampling, prompt))
        assert last.usage is not None
        assert last.usage.completion_tokens == 4


async def test_a_prompt_over_the_context_is_refused_with_both_lengths(engine: Engine) -> None:
    with pytest.raises(PromptTooLong) as refusal:
        await deltas_of(engine, chat("word " * (2 * CONTEXT), max_tokens=20))
    numbers = [
        int(word) for word in refusal.value.message.replace(",", "").split() if word.isdigit()
    ]
    assert numbers[0] >= 2 * CONTEXT
    assert numbers[1:] == [20, CONTEXT]


async def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(engine: Engine) -> None:
    message = f"the answer may take {CONTEXT}, but the model's context is {CONTEXT}"
    with pytest.raises(PromptTooLong, match=message):
        await deltas_of(engine, chat(max_tokens=CONTEXT))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.5),
        ("temperature", "hot"),
        ("top_p", -0.1),
        ("n", 0),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("presence_penalty", 3),
        ("top_logprobs", 21),
        ("stop", [""]),
        ("stop", 5),
        ("temprature", 1),
        ("suffix", "end"),
        ("echo", True),
    ],
)
async def test_a_field_that_is_unknown_or_out_of_range_is_named(
    engine: Engine, field: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await deltas_of(engine, chat(**{field: value}))
    assert refusal.value.param == field
    assert field in refusal.value.message
    assert (await engine.health()).running == 0


async def test_closing_the_stream_frees_the_slot(engine: Engine) -> None:
    async with aclosing(engine.generate(chat(max_tokens=400), None)) as deltas:
        await anext(deltas)
        assert (await engine.health()).running == 1
    await until_idle(engine, within_s=1)


async def test_cancelling_the_task_frees_the_slot(engine: Engine) -> None:
    task = asyncio.create_task(deltas_of(engine, chat(max_tokens=400)))
    async with asyncio.timeout(5):
        while not (await engine.health()).running:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until_idle(engine, within_s=1)


async def test_cancelled_answers_leave_the_whole_batch_to_the_next(engine: Engine) -> None:
    tasks = [asyncio.create_task(deltas_of(engine, chat(max_tokens=450))) for _ in range(24)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1):
        await text_of(engine, chat(max_tokens=2))
    await until_idle(engine, within_s=1)


async def test_an_adapter_changes_the_answer_and_the_base_stays_as_it_was(
    engine: Engine, tmp_path: Path
) -> None:
    base = await text_of(engine, chat())
    answers = []
    for seed in (1, 2):
        adapter = an_adapter(tmp_path, f"changing{seed}", seed)
        async with engine.lease(adapter):
            answers.append(await text_of(engine, chat(), adapter))
            assert await text_of(engine, chat()) == base
    assert len({base, *answers}) == 3
    assert await text_of(engine, chat()) == base


async def test_sixteen_first_requests_load_a_cold_adapter_once(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cold = an_adapter(tmp_path, "cold", seed=3)

    async def ask() -> str:
        async with engine.lease(cold):
            return await text_of(engine, chat(max_tokens=4), cold)

    with caplog.at_level(logging.INFO, "engram.adapters"):
        answers = await asyncio.gather(*(ask() for _ in range(16)))
    assert caplog.messages.count("adapter cold@1 is loaded") == 1
    assert all(answers)


async def test_an_adapter_in_use_is_not_evicted_and_the_others_share_what_is_left(
    engine: Engine, tmp_path: Path
) -> None:
    kept = an_adapter(tmp_path, "kept", seed=4)
    async with engine.lease(kept):
        before = await text_of(engine, chat(), kept)
        for seed in (5, 6, 7):
            passing = an_adapter(tmp_path, f"passing{seed}", seed)
            async with engine.lease(passing):
                assert set((await engine.health()).loaded) == {kept.id, passing.id}
                await text_of(engine, chat(max_tokens=2), passing)
        assert await text_of(engine, chat(), kept) == before


async def test_when_all_slots_are_leased_the_next_adapter_waits(
    engine: Engine, tmp_path: Path
) -> None:
    waiting = an_adapter(tmp_path, "waiting")

    async def ask() -> str:
        async with engine.lease(waiting):
            return await text_of(engine, chat(max_tokens=2), waiting)

    async with AsyncExitStack() as stack:
        for name in ("first", "second"):
            await stack.enter_async_context(engine.lease(an_adapter(tmp_path, name)))
        task = asyncio.create_task(ask())
        await asyncio.sleep(0.05)
        assert not task.done()
    async with asyncio.timeout(5):
        assert await task


async def test_an_adapter_that_cannot_be_loaded_is_an_error_and_not_the_base_model(
    engine: Engine, tmp_path: Path
) -> None:
    if isinstance(engine, ScriptedEngine):
        engine.unloadable = frozenset({AdapterId("broken@1")})
    path = write_adapter(tmp_path / "broken@1", use_dora=True)
    for _ in range(2):
        with pytest.raises(AdapterNotReady, match="'broken@1' could not be loaded: "):
            async with engine.lease(Adapter(AdapterId("broken@1"), path)):
                pass
    assert AdapterId("broken@1") not in (await engine.health()).loaded


async def test_an_adapter_copied_in_while_answers_stream_is_used_without_a_restart(
    engine: Engine, tmp_path: Path
) -> None:
    folders = Folders(tmp_path / "adapters")
    source = write_adapter(tmp_path / "source", seed=8)
    async with aclosing(engine.generate(chat(max_tokens=400), None)) as bystander:
        await anext(bystander)
        shutil.copytree(source, tmp_path / "adapters" / "acme" / "new@1")
        path = folders.find(TenantId("acme"), AdapterId("new@1"))
        assert path is not None
        adapter = Adapter(AdapterId("acme/new@1"), path)
        async with engine.lease(adapter):
            changed = await text_of(engine, chat(), adapter)
        assert (await anext(bystander)).finish_reason is None
    assert changed != await text_of(engine, chat())
