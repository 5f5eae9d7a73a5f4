"""vLLM around the scripted model, as the benchmarks run it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio

from loadtests.scripted_worker import scripted, words
from serving.app import create_engine
from serving.generation.engine import Engine
from serving.settings import ROOT
from serving.types import Delta, Prompt

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

ITL_S = 0.02
PREFILL_TOKENS = 32  # in one step, so that a long prompt takes several


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)  # vLLM's core imports the worker in its own process
    arguments = {"max_num_batched_tokens": PREFILL_TOKENS, "block_size": 16}
    settings = scripted(ITL_S, max_model_len=4096, max_num_seqs=16, extra_args=arguments)
    async with create_engine(settings) as running:
        yield running
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def chat(text: str, /, **sampling: Any) -> Prompt:
    return Prompt("test", ({"role": "user", "content": text},), {"ignore_eos": True} | sampling)


async def deltas_of(engine: Engine, prompt: Prompt) -> list[Delta]:
    return [delta async for delta in engine.generate(prompt, None)]


def text_of(deltas: Iterable[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_every_answer_is_whole_the_same_and_made_of_words(engine: Engine) -> None:
    asked = [deltas_of(engine, chat(f"Question {n}?", max_tokens=20)) for n in range(12)]
    answers = await asyncio.gather(*asked)
    assert len({text_of(answer) for answer in answers}) == 1
    assert len(text_of(answers[0]).split()) == 20
    assert all(word.isalpha() for word in text_of(answers[0]).split())
    usages = [answer[-1].usage for answer in answers]
    assert [usage and usage.completion_tokens for usage in usages] == [20] * 12


async def test_no_token_comes_before_its_time(engine: Engine) -> None:
    began = time.perf_counter()
    answer = await deltas_of(engine, chat("How long?", max_tokens=25))
    assert answer[-1].finish_reason == "length"
    assert time.perf_counter() - began >= 25 * ITL_S


async def test_a_prompt_that_takes_several_steps_is_read_to_its_end_first(engine: Engine) -> None:
    began = time.perf_counter()
    answer = await deltas_of(engine, chat("a long story " * 100, max_tokens=4))
    usage = answer[-1].usage
    assert usage is not None and usage.completion_tokens == 4
    steps = -(-usage.prompt_tokens // PREFILL_TOKENS)
    assert steps > 5
    assert time.perf_counter() - began >= (steps + 3) * ITL_S


class Letters:
    """A tokenizer without words."""

    def __len__(self) -> int:
        return 26

    def decode(self, token_ids: list[int]) -> str:
        return chr(ord("a") + token_ids[0])


async def test_a_tokenizer_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="the tokenizer has 0 tokens that are words; 64"):
        words(Letters())
