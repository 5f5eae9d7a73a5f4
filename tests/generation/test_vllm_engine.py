"""What only the real engine can show. The last test kills it, so nothing may follow it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY
from transformers import AutoTokenizer

from serving.errors import AdapterNotReady, EngineFailed, InvalidRequest
from serving.generation.engine import Adapter
from serving.generation.pace import FREE_STREAMS
from serving.generation.vllm_arguments import engine_arguments, environment
from serving.generation.vllm_engine import VllmEngine
from serving.settings import EngineSettings, SettingsError
from serving.types import AdapterId, Delta, Prompt
from tests.tiny_model import write_adapter

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SCHEMA = {
    "type": "object",
    "properties": {"sure": {"enum": ["yes", "no"]}},
    "required": ["sure"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "decide", "parameters": SCHEMA}}]


def chat(text: str = "Are you sure?", /, **sampling: Any) -> Prompt:
    messages = ({"role": "user", "content": text},)
    return Prompt("test", messages, {"temperature": 0, "max_tokens": 64} | sampling)


async def deltas_of(engine: VllmEngine, prompt: Prompt) -> list[Delta]:
    async with aclosing(engine.generate(prompt, None)) as deltas:
        return [delta async for delta in deltas]


async def drain(deltas: AsyncIterator[Delta]) -> None:
    async for _ in deltas:
        pass


async def text_of(engine: VllmEngine, prompt: Prompt) -> str:
    return "".join(delta.text for delta in await deltas_of(engine, prompt))


async def test_a_json_schema_is_kept_to(vllm_engine: VllmEngine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    answer = await text_of(vllm_engine, chat(response_format=wanted, seed=1, temperature=1))
    assert json.loads(answer)["sure"] in ("yes", "no")


async def test_a_schema_that_is_none_is_the_callers_error(vllm_engine: VllmEngine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(InvalidRequest, match="nonsense"):
        await deltas_of(vllm_engine, chat(response_format=wanted))


async def test_different_seeds_give_different_answers(vllm_engine: VllmEngine) -> None:
    answers = {
        await text_of(vllm_engine, chat(temperature=1, seed=seed, ignore_eos=True, max_tokens=12))
        for seed in range(3)
    }
    assert len(answers) == 3


async def test_logit_bias_and_extras_of_vllm_reach_the_sampler(
    vllm_engine: VllmEngine, tiny_model_folder: Path
) -> None:
    x = AutoTokenizer.from_pretrained(tiny_model_folder).convert_tokens_to_ids("x")
    wanted = {"max_tokens": 5, "ignore_eos": True}
    assert await text_of(vllm_engine, chat(logit_bias={str(x): 100}, **wanted)) == "xxxxx"
    assert await text_of(vllm_engine, chat(allowed_token_ids=[x], **wanted)) == "xxxxx"
    hot = {"temperature": 2, "top_k": 1, "min_p": 0.5, "repetition_penalty": 1.0, "seed": 1}
    assert await text_of(vllm_engine, chat(**wanted, **hot)) == await text_of(
        vllm_engine, chat(**wanted)
    )


async def test_of_many_streams_none_loses_or_doubles_a_token(
    vllm_engine: VllmEngine, tiny_model_folder: Path
) -> None:
    x = AutoTokenizer.from_pretrained(tiny_model_folder).convert_tokens_to_ids("x")
    two = {"n": 2, "temperature": 1}
    prompt = chat(allowed_token_ids=[x], max_tokens=24, ignore_eos=True, logprobs=True, **two)
    streams = 2 * FREE_STREAMS
    for deltas in await asyncio.gather(*(deltas_of(vllm_engine, prompt) for _ in range(streams))):
        for choice in (0, 1):
            own = [delta for delta in deltas if delta.index == choice]
            assert "".join(delta.text for delta in own) == "x" * 24
            assert sum(len((delta.logprobs or {})["content"]) for delta in own) == 24
            assert [delta.finish_reason for delta in own if delta.finish_reason] == ["length"]
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.completion_tokens == 48


async def test_an_unknown_token_in_logit_bias_is_refused(vllm_engine: VllmEngine) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await deltas_of(vllm_engine, chat(logit_bias={"99999": 1}))
    assert refusal.value.param == "logit_bias"


async def test_a_prompt_seen_before_is_read_from_the_cache(vllm_engine: VllmEngine) -> None:
    prompt = chat("a long question about very little " * 12, max_tokens=2)
    first, second = [(await deltas_of(vllm_engine, prompt))[-1].usage for _ in range(2)]
    assert first is not None
    assert second is not None
    assert first.cached_tokens == 0
    assert 0 < second.cached_tokens < second.prompt_tokens


async def test_a_named_tool_is_called_with_valid_arguments(vllm_engine: VllmEngine) -> None:
    choice = {"type": "function", "function": {"name": "decide"}}
    deltas = await deltas_of(vllm_engine, chat(tools=TOOLS, tool_choice=choice, max_tokens=128))
    calls = [call for delta in deltas for call in (delta.extra or {}).get("tool_calls", ())]
    assert calls[0]["function"]["name"] == "decide"
    assert calls[0]["id"]
    assert deltas[-1].finish_reason is not None
    assert deltas[-1].usage is not None
    assert deltas[-1].usage.completion_tokens > 0


async def test_tools_that_are_not_called_leave_plain_text(vllm_engine: VllmEngine) -> None:
    sampling = {"max_tokens": 16, "ignore_eos": True, "temperature": 0}
    with_tools = await text_of(vllm_engine, chat(tools=TOOLS, **sampling))
    plain = chat(skip_special_tokens=False, **sampling)  # as the tool parser asks of vLLM
    assert with_tools == await text_of(vllm_engine, plain)


async def test_both_paths_refuse_and_abort_alike(vllm_engine: VllmEngine) -> None:
    with pytest.raises(InvalidRequest):
        await deltas_of(vllm_engine, chat(tools=TOOLS, tool_choice="sometimes"))
    endless = chat(tools=TOOLS, max_tokens=400, ignore_eos=True)
    async with aclosing(vllm_engine.generate(endless, None)) as deltas:
        await anext(deltas)
        assert (await vllm_engine.health()).running == 1
    async with asyncio.timeout(1):
        while (await vllm_engine.health()).running:
            await asyncio.sleep(0.01)


async def test_an_adapter_of_another_base_model_is_refused(
    vllm_engine: VllmEngine, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "x@1", rank_pattern={"q_proj": 4})
    with pytest.raises(AdapterNotReady, match="not of rank 4"):
        async with vllm_engine.lease(Adapter(AdapterId("x@1"), folder)):
            pass


async def test_an_adapter_without_a_lease_never_falls_back_to_other_weights(
    vllm_engine: VllmEngine, tmp_path: Path
) -> None:
    adapter = Adapter(AdapterId("unleased@1"), write_adapter(tmp_path / "unleased@1"))
    with pytest.raises(EngineFailed, match="without a lease"):
        await anext(vllm_engine.generate(chat(), adapter))


async def test_vllms_own_metrics_are_exposed(vllm_engine: VllmEngine) -> None:
    await deltas_of(vllm_engine, chat(max_tokens=3))
    names = {metric.name for metric in REGISTRY.collect()}
    assert {"vllm:generation_tokens", "vllm:time_to_first_token_seconds"} <= names


async def test_one_gloo_thread_wakes_up_in_the_core(vllm_engine: VllmEngine) -> None:
    names = []
    for child in psutil.Process().children(recursive=True):
        for name in Path(f"/proc/{child.pid}/task").glob("*/comm"):
            with suppress(OSError):  # it has ended
                names.append(name.read_text().strip())
    assert names.count("gloo_tcp_loop") == 1


async def test_a_rank_that_vllm_does_not_know_is_refused_before_anything_starts() -> None:
    with pytest.raises(SettingsError, match="max_lora_rank is 12; vLLM takes 1, 8, 16"):
        VllmEngine(EngineSettings(max_lora_rank=12))


async def test_a_gpu_gets_its_own_arguments_and_further_ones_win() -> None:
    settings = EngineSettings(device="gpu", tensor_parallel_size=2, extra_args={"max_num_seqs": 7})
    arguments = engine_arguments(settings)
    assert (arguments["tensor_parallel_size"], arguments["max_num_seqs"]) == (2, 7)
    assert "distributed_executor_backend" not in arguments
    assert "OMP_NUM_THREADS" not in environment(settings)


async def test_an_engine_that_is_not_started_says_so() -> None:
    engine = VllmEngine(EngineSettings())
    assert not (await engine.health()).healthy
    with pytest.raises(EngineFailed, match="not started"):
        engine.count_tokens("word")


async def test_when_the_core_dies_streams_fail_at_once_and_health_says_so(
    vllm_engine: VllmEngine,
) -> None:
    async with aclosing(
        vllm_engine.generate(chat(max_tokens=400, ignore_eos=True), None)
    ) as deltas:
        await anext(deltas)
        (core,) = [p for p in psutil.Process().children() if "EngineCore" in " ".join(p.cmdline())]
        core.kill()
        with pytest.raises(EngineFailed, match="died"):
            await asyncio.wait_for(drain(deltas), timeout=10)
    health = await vllm_engine.health()
    assert (health.healthy, health.detail) == (False, "the engine died")
    with pytest.raises(EngineFailed):
        await deltas_of(vllm_engine, chat())
