"""Sections on an engine whose model is free, so that what is measured is everything else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from loadtests.arms import (
    Arm,
    BareVllm,
    Engram,
    HttpRelay,
    LiteLlm,
    Plain,
    Relay,
    ServeLlm,
    running,
)
from loadtests.measure import Work
from loadtests.records import Measured
from loadtests.scripted_worker import scripted
from loadtests.section import QUESTIONS, Options, cases_of, loaded
from loadtests.tables import (
    ADDED_PER_TOKEN,
    CPU_PER_REQUEST,
    CPU_PER_TOKEN,
    FRONT_PER_TOKEN,
    ITL_P99,
    OWN_PER_REQUEST,
    TOKENS_PER_S,
    TTFT_P50,
    Comparison,
    Table,
)
from serving.settings import EngineSettings

STREAMS = 64  # where arms are compared with each other
_OTHER_STREAMS = (1, 16, 256)
_BODIES = {1: 16, 32: 16, 220: 4}  # KB: streams, so that a turn of the largest ends in time
_BODY_TOKENS = 8
_ITL_S = 0.005

_VLLM = """\
vLLM with a worker that computes nothing: a token for every request after 5 ms. vLLM's front end, \
scheduler and detokenizer run in every arm, and only the model is free."""
_RELAYS = """\
`fastapi_httpx` and `litellm` relay to `vllm`, and their rows count it too; \
“without what it relays to” is the gateway alone. `engram` holds vLLM's front end itself, so the \
gateways compare by what each costs beyond `vllm`."""
_ALONE = """\
An engine in the gateway's own process yields a word every 5 ms, so vLLM costs nothing either. \
`plain` is that engine behind FastAPI and uvicorn with nothing else: no keys, no limits, no \
decision, no record, no HAProxy."""


async def with_scripted_worker(options: Options) -> AsyncGenerator[Measured, None]:
    """Engram, vLLM's own API server and a relay."""
    engine = scripted(itl_s=_ITL_S)
    engram, vllm = Engram("engram", engine), BareVllm("vllm", engine)
    arms = options.chosen([engram, vllm, Relay("relay", engine)])
    async with running(arms, options.say):
        yield await _streams(options, arms, STREAMS)
        if options.full:
            two = [arm for arm in arms if arm in (engram, vllm)]
            for streams in _OTHER_STREAMS:
                yield await _streams(options, two, streams)
            for kilobytes, streams in _BODIES.items():
                yield await _bodies(options, two, kilobytes, streams)


async def proxies(options: Options) -> AsyncGenerator[Measured, None]:
    """Gateways in front of vLLM, as one would build or buy them."""
    engine = scripted(itl_s=_ITL_S)
    vllm = BareVllm("vllm", engine)
    relays = [HttpRelay("fastapi_httpx", engine, vllm), LiteLlm("litellm", engine, vllm)]
    compared = [
        Comparison("litellm", "engram", CPU_PER_REQUEST, "≥ 20", beyond="vllm"),
        Comparison("litellm", "engram", CPU_PER_REQUEST),
        Comparison("litellm", "engram", OWN_PER_REQUEST),
        Comparison("litellm", "engram", CPU_PER_TOKEN),
        Comparison("fastapi_httpx", "engram", CPU_PER_REQUEST, beyond="vllm"),
        Comparison("fastapi_httpx", "engram", CPU_PER_REQUEST),
        Comparison("engram", "litellm", TOKENS_PER_S),
    ]
    words = ("proxies", f"Gateways before scripted vLLM, {STREAMS} streams", f"{_VLLM} {_RELAYS}")
    async with running(
        options.chosen([Engram("engram", engine), vllm, *relays]), options.say
    ) as up:
        yield await loaded(options, cases_of(up), options.work(STREAMS), words, compared)


async def serve_llm(options: Options) -> AsyncGenerator[Measured, None]:
    """Ray's own way to serve a language model."""
    engine = scripted(itl_s=_ITL_S)
    compared = [
        Comparison("serve_llm", "engram", CPU_PER_TOKEN),
        Comparison("serve_llm", "engram", FRONT_PER_TOKEN),
        Comparison("engram", "serve_llm", TOKENS_PER_S),
    ]
    explanation = f"{_VLLM} `serve_llm` is the app that `ray.serve.llm` builds, by its defaults."
    words = ("serve_llm", f"Ray Serve LLM, scripted vLLM, {STREAMS} streams", explanation)
    arms = options.chosen([Engram("engram", engine), ServeLlm("serve_llm", engine)])
    async with running(arms, options.say) as up:
        yield await loaded(options, cases_of(up), options.work(STREAMS), words, compared)


async def alone(options: Options) -> AsyncGenerator[Measured, None]:
    """The gateway alone, since its engine costs almost nothing."""
    engine = EngineSettings(
        kind="scripted", model="scripted", max_num_seqs=STREAMS, extra_args={"itl_s": _ITL_S}
    )
    echoed = " ".join(f"word{n}" for n in range(options.max_tokens + 16))
    compared = [
        Comparison("relay", "engram", CPU_PER_TOKEN, "≥ 10"),
        Comparison("engram", "relay", TOKENS_PER_S),
        Comparison("engram", "plain", CPU_PER_TOKEN),
        Comparison("engram", "plain", ADDED_PER_TOKEN),
    ]
    words = ("alone", f"The gateway alone, {STREAMS} streams", _ALONE)
    arms = [Engram("engram", engine), Plain("plain", engine), Relay("relay", engine)]
    async with running(options.chosen(arms), options.say) as up:
        yield await loaded(options, cases_of(up), options.work(STREAMS, [echoed]), words, compared)


async def _streams(options: Options, arms: Sequence[Arm], streams: int) -> Table:
    has_goal = streams == STREAMS
    compared = [
        Comparison("engram", "vllm", TOKENS_PER_S, "≥ 0.97" * has_goal),
        Comparison("engram", "vllm", CPU_PER_TOKEN, "≤ 1.1" * has_goal),
        Comparison("engram", "vllm", ADDED_PER_TOKEN),
        Comparison("engram", "vllm", FRONT_PER_TOKEN),
        Comparison("engram", "vllm", TTFT_P50),
        Comparison("engram", "vllm", ITL_P99),
        Comparison("relay", "engram", CPU_PER_TOKEN),
        Comparison("relay", "engram", FRONT_PER_TOKEN),
    ]
    words = (f"streams_{streams}", f"Scripted vLLM, {streams} streams", _VLLM)
    return await loaded(options, cases_of(arms), options.work(streams), words, compared)


async def _bodies(options: Options, arms: Sequence[Arm], kilobytes: int, streams: int) -> Table:
    compared = [
        Comparison("engram", "vllm", CPU_PER_REQUEST),
        Comparison("engram", "vllm", TTFT_P50),
    ]
    work = Work(QUESTIONS, streams, options.seconds, _BODY_TOKENS, kilobytes * 1024)
    words = (f"body_{kilobytes}kb", f"Scripted vLLM, bodies of {kilobytes} KB", _VLLM)
    return await loaded(options, cases_of(arms), work, words, compared)
