"""Sections on a real model: the demo's, or the one that the settings name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from loadtests.arms import Arm, ArmError, BareVllm, Engram, running
from loadtests.first_token import AddedTable, StagesTable
from loadtests.measure import Case, Work
from loadtests.paired import paired
from loadtests.records import Measured
from loadtests.section import QUESTIONS, Options, cases_of, loaded
from loadtests.stages import stages
from loadtests.tables import (
    CPU_PER_REQUEST,
    CPU_PER_TOKEN,
    FRONT_PER_TOKEN,
    ITL_P99,
    TOKENS_PER_S,
    TTFT_P50,
    TTFT_P99,
    Comparison,
    Table,
)
from serving.settings import ROOT, EngineSettings, load

_PAIRS, _STAGED = 200, 60
_MODE_STREAMS = 16
_MODEL = """\
Every arm runs vLLM with the same arguments on the real model; `engram` passes the base model \
through."""
_MODES = "The modes of `helpdesk` search and read passages, or use its adapter."


async def with_model(options: Options) -> AsyncGenerator[Measured, None]:
    """Engram and vLLM: the first token at one stream, then many streams, then Engram's modes."""
    engine = _real_engine()
    engram, vllm = Engram("engram", engine, modes=_modes(engine)), BareVllm("vllm", engine)
    arms = options.chosen([engram, vllm])
    async with running(arms, options.say):
        yield await _first_token(options, arms)
        if options.full:
            for streams in (32, 256) if engine.device == "gpu" else (32,):
                yield await _streams(options, arms, streams)
            if engram in arms and engram.modes:
                yield await _rag_by_stage(options, engram)
                yield await _all_modes(options, engram)


async def _first_token(options: Options, arms: Sequence[Arm]) -> AddedTable:
    options.say(f"{_PAIRS} questions to each server in turn, one stream")
    short = Work(QUESTIONS, 1, options.seconds, max_tokens=4)
    pairs = await paired(cases_of(arms), short, _PAIRS, options.say)
    reference = arms[-1].name
    return AddedTable("ttft", "The first token, real model, 1 stream", _MODEL, pairs, reference)


async def _streams(options: Options, arms: Sequence[Arm], streams: int) -> Table:
    compared = [
        Comparison("engram", "vllm", TTFT_P50, "≤ 1.03"),
        Comparison("engram", "vllm", TTFT_P99),
        Comparison("engram", "vllm", ITL_P99),
        Comparison("engram", "vllm", TOKENS_PER_S),
        Comparison("engram", "vllm", CPU_PER_TOKEN),
        Comparison("engram", "vllm", FRONT_PER_TOKEN),
    ]
    words = (f"model_{streams}", f"Real model, {streams} streams", _MODEL)
    return await loaded(options, cases_of(arms), options.work(streams), words, compared)


async def _all_modes(options: Options, engram: Engram) -> Table:
    cases = [Case(mode, engram, f"helpdesk:{mode}") for mode in ("base", *engram.modes)]
    compared = [Comparison(mode, "base", CPU_PER_REQUEST) for mode in engram.modes]
    title = f"Real model, modes of an assistant, {_MODE_STREAMS} streams"
    words = ("modes", title, f"{_MODEL} {_MODES}")
    return await loaded(options, cases, options.work(_MODE_STREAMS), words, compared)


async def _rag_by_stage(options: Options, engram: Engram) -> StagesTable:
    options.say("retrieval by stage, one stream")
    staged = await stages(engram.target, "helpdesk", QUESTIONS, _STAGED)
    words = "As the server timed it, one request at a time, each answered with one token."
    return StagesTable("rag", "What retrieval adds, by stage", words, staged)


def _real_engine() -> EngineSettings:
    """As the environment has it: `make bench MODEL=… ENGINE=gpu`.

    Raises:
        ArmError: the demo model's weights are not there.
    """
    engine = load().engine
    folder = Path(engine.model)
    if folder == ROOT / "deploy/demo/model/weights" and not any(folder.glob("*.safetensors")):
        raise ArmError("the demo model is not there: run `make demo-model`, or name a MODEL")
    if engine.device == "gpu":
        engine = engine.model_copy(update={"max_num_seqs": max(256, engine.max_num_seqs)})
    return engine


def _modes(engine: EngineSettings) -> tuple[str, ...]:
    """What the demo's assistant can do, if `engram up` sets it up for this model."""
    if engine.model != EngineSettings().model:
        return ()
    has_adapter = any((ROOT / "deploy/demo/adapters").glob("*@*"))
    return ("rag", "fine_tuned", "hybrid") if has_adapter else ("rag",)
