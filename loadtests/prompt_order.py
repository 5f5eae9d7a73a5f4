"""How many prompt tokens vLLM computes, by the order of the passages; and whether answers change.

Real vLLM with the demo model, real searches over the demo's documents. Every order sees the same
requests, one after another, with a prefix cache of its own; what was computed is the prompt
without the tokens that vLLM says it had, so the counts are exact and the machine's load is no
matter. Writes docs/benchmarks/prompt_order.md.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import uvloop

from deploy.demo.seed import INSTRUCTIONS
from loadtests.prompt_popularity import ByPopularity
from loadtests.prompt_report import Answered, Computed, markdown, values
from loadtests.prompt_workload import Ask, Case, Workload
from loadtests.report import Value
from serving.app import grounding_of
from serving.evaluate.modes import contains_any
from serving.generation.citations import cite
from serving.generation.passage_order import Order, PassageOrder
from serving.generation.prompt import PromptBuilder
from serving.generation.vllm_engine import VllmEngine
from serving.settings import ROOT, EngineSettings
from serving.types import Assistant, Citation, Delta, Prompt, Question, TenantId, Usage

ORDERS: Mapping[str, Callable[[], Order | None]] = {
    "relevance": lambda: None,
    "popularity": ByPopularity,
    "shared": PassageOrder,
}
CASES = (
    Case("demo", "the demo as shipped: its questions", 16, 2, "questions"),
    Case("questions", "Engram's default passages: the same questions", 96, 3, "questions"),
    Case("searches", "Engram's default passages: searches in any words", 96, 3, "searches"),
    Case("many", "many passages: searches in any words", 96, 8, "searches"),
)
AT_ONCE = 32
ANSWER_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Options:
    requests: int
    seeds: int
    block_sizes: Sequence[int]
    cases: Sequence[str]
    output: Path
    say: Callable[[str], None] = print


async def run(options: Options) -> list[Value]:
    """Every case on every block size; answers are compared once, for the demo's own questions."""
    computed: list[Computed] = []
    answered: list[Answered] = []
    chosen = [case for case in CASES if case.key in options.cases]
    command = shlex.join(["python", "-m", "loadtests.prompt_order", *sys.argv[1:]])
    workloads = {case.key: await asyncio.to_thread(Workload, case) for case in chosen}
    for block_size in options.block_sizes:
        options.say(f"starting vLLM with blocks of {block_size} tokens")
        engine_settings = EngineSettings(kv_cache_gib=1.5, extra_args={"block_size": block_size})
        async with VllmEngine(engine_settings) as engine:
            for case in chosen:
                bench = _Bench(engine, case, workloads[case.key])
                computed.append(await bench.computed(options, block_size))
                options.say(f"{case.key}: {dict(computed[-1].tokens)} tokens computed")
                if case.asks == "questions" and block_size == options.block_sizes[0]:
                    answered.append(await bench.answered(options))
                    options.say(f"{case.key}: answers compared")
                options.output.write_text(markdown(computed, answered, command))
    return values(computed, answered)


@dataclass(frozen=True, slots=True)
class _Bench:
    """One case on a running engine."""

    engine: VllmEngine
    case: Case
    workload: Workload

    async def computed(self, options: Options, block_size: int) -> Computed:
        runs: dict[str, list[Awaitable[list[Usage]]]] = {order: [] for order in ORDERS}
        for seed in range(options.seeds):
            asks = await asyncio.to_thread(self.workload.requests, options.requests, seed)
            for order in ORDERS:
                runs[order].append(self._one_by_one(order, seed, asks))
        usages = await asyncio.gather(*(asyncio.gather(*seeds) for seeds in runs.values()))
        tokens = {
            order: [computed_tokens(seed) for seed in seeds]
            for order, seeds in zip(runs, usages, strict=True)
        }
        lengths = [usage.prompt_tokens for usage in usages[0][0]]
        prompt_tokens = sum(lengths) // len(lengths)
        return Computed(self.case, block_size, options.requests, prompt_tokens, tokens)

    async def answered(self, options: Options) -> Answered:
        """Each question under each order, after the orders have seen a workload."""
        asks = await asyncio.to_thread(self.workload.answerable)
        history = await asyncio.to_thread(self.workload.requests, options.requests, 0)
        right: dict[str, list[bool]] = {}
        cited: dict[str, list[bool]] = {}
        for order in ORDERS:
            build = self._builder(order, f"{order}-answers")
            for ask in history:
                build(ask, 1)
            prompts = [build(ask, ANSWER_TOKENS) for ask in asks]
            told = await self._answers(prompts)
            right[order] = [
                contains_any(text, ask.item.accept)
                for ask, (text, _) in zip(asks, told, strict=True)
                if ask.item
            ]
            cited[order] = [
                ask.item.file in files
                for ask, (_, files) in zip(asks, told, strict=True)
                if ask.item
            ]
        return Answered(self.case, right, cited)

    async def _one_by_one(self, order: str, seed: int, asks: Sequence[Ask]) -> list[Usage]:
        build = self._builder(order, f"{self.case.key}-{order}-{seed}")
        return [await self._usage(build(ask, 1)) for ask in asks]

    def _builder(self, order: str, tenant: str) -> Callable[[Ask, int], Prompt]:
        """A tenant of its own, so that the orders share no cache."""
        grounding = grounding_of(EngineSettings())
        prompts = PromptBuilder(self.engine, grounding, ORDERS[order]())
        assistant = Assistant(order, TenantId(tenant), INSTRUCTIONS)
        numbers = iter(range(sys.maxsize))

        def build(ask: Ask, max_tokens: int) -> Prompt:
            sampling = {"temperature": 0, "max_tokens": max_tokens}
            id = f"{tenant}-{next(numbers)}"
            return prompts.build(
                assistant, Question(id, order, ask.messages, sampling), ask.passages
            )

        return build

    async def _usage(self, prompt: Prompt) -> Usage:
        usage = Usage()
        async with aclosing(self.engine.generate(prompt, None)) as deltas:
            async for delta in deltas:
                usage = delta.usage or usage
        return usage

    async def _answers(self, prompts: Sequence[Prompt]) -> list[tuple[str, set[str]]]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(prompt: Prompt) -> tuple[str, set[str]]:
            async with slots:
                return await self._answer(prompt)

        return await asyncio.gather(*map(one, prompts))

    async def _answer(self, prompt: Prompt) -> tuple[str, set[str]]:
        """The text, and the files that its citations name."""
        text, files = "", set[str]()
        async with aclosing(self.engine.generate(prompt, None)) as deltas:
            async for event in cite(deltas, prompt.passages):
                if isinstance(event, Delta):
                    text += event.text
                if isinstance(event, Citation):
                    files.add(event.passage.filename)
        return text, files


def computed_tokens(usages: Sequence[Usage]) -> int:
    return sum(usage.prompt_tokens - usage.cached_tokens for usage in usages)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m loadtests.prompt_order", description=__doc__)
    add = parser.add_argument
    add("--requests", type=int, default=600, help="of every case, seed and order (600)")
    add("--seeds", type=int, default=3, help="workloads of every case (3)")
    add("--block-sizes", type=int, nargs="+", default=[32, 128], help="of vLLM's cache (32 128)")
    keys = [case.key for case in CASES]
    add("--cases", nargs="+", choices=keys, default=keys, help="only these")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/prompt_order.md", help="the page")
    return Options(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    for value in uvloop.run(run(parse())):
        print(value)
