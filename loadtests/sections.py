"""What `make bench` compares: the same load on Engram and on what one would run instead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from loadtests.arms import Arm, ArmError, BareVllm, Engram, Plain, Relay, running
from loadtests.measure import Case, Work, measure
from loadtests.report import Comparison, Section
from serving.settings import ROOT, EngineSettings

ARMS = ("engram", "vllm", "plain", "relay")
QUESTIONS = (
    "What is the name of the form for parental leave?",
    "How many hours is a full working week?",
    "From which day of sick leave is a doctor's note needed?",
    "What does a guest pay for lunch in the canteen?",
    "What is the phone number of the support desk?",
    "How high can the yearly bonus be?",
    "How long is my badge valid?",
    "Which company repairs broken laptops?",
)
_ITL_S = 0.005  # of the scripted engine
_COST = attrgetter("cpu_us_per_token")
_ADDED = attrgetter("added_us_per_token")
_FRONT = attrgetter("front_us_per_token")
_RATE = attrgetter("requests_per_s")

_MODEL = """\
Every arm runs vLLM with the same arguments on the demo model. `engram` passes the base model \
through; `vllm` is vLLM's own API server; `relay` is a Ray Serve gateway deployment calling an \
engine deployment, with Ray's defaults. The modes of `helpdesk` do more work: they search and \
read passages."""
_COMPARED_WITH_MODEL = (
    Comparison("Engram ÷ vLLM: server CPU per token", "engram", "vllm", _COST),
    Comparison("Engram ÷ vLLM beyond idle: server CPU per token", "engram", "vllm", _ADDED),
    Comparison("Engram ÷ vLLM front end: without the model's process", "engram", "vllm", _FRONT),
    Comparison("Engram ÷ vLLM throughput: requests/s", "engram", "vllm", _RATE),
    Comparison("Relay ÷ Engram: server CPU per token", "relay", "engram", _COST),
    Comparison("Relay ÷ Engram front end: without the model's process", "relay", "engram", _FRONT),
)
_SCRIPT = """\
A scripted engine yields one token every 5 ms, so almost all CPU is the gateway's. `plain` is the \
same engine behind FastAPI and uvicorn with nothing else: no keys, no limits, no decision, no \
record, no HAProxy. `relay` is as above."""
_COMPARED_WITH_SCRIPT = (
    Comparison("Engram ÷ plain: server CPU per token", "engram", "plain", _COST),
    Comparison("Engram ÷ plain beyond idle: server CPU per token", "engram", "plain", _ADDED),
    Comparison("Relay ÷ Engram: server CPU per token", "relay", "engram", _COST),
    Comparison("Engram ÷ relay throughput: requests/s", "engram", "relay", _RATE),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    sections: Sequence[str]
    arms: Sequence[str]
    streams: int
    scripted_streams: int
    requests_per_stream: int
    max_tokens: int
    repeats: int
    model: str
    output: Path
    results: Path
    say: Callable[[str], None]

    def work(self, questions: Sequence[str], streams: int) -> Work:
        return Work(questions, streams, streams * self.requests_per_stream, self.max_tokens)


async def with_model(options: Options) -> Section:
    """Engram and its alternatives, each with a vLLM engine of its own."""
    engine = EngineSettings(model=options.model)
    if not _has_weights(engine.model):
        raise ArmError("the demo model is not there: run `make demo-model`, or pass --model")
    engram = Engram("engram", engine, modes=_modes(engine))
    arms = [engram, BareVllm("vllm", engine), Relay("relay", engine)]
    work = options.work(QUESTIONS, options.streams)
    return await _section(
        options, arms, work, ("model", "With the real model", _MODEL), _COMPARED_WITH_MODEL
    )


async def with_script(options: Options) -> Section:
    """The gateway alone, since a scripted engine costs almost nothing."""
    streams = options.scripted_streams
    engine = EngineSettings(
        kind="scripted",
        model="scripted",
        max_num_seqs=max(64, streams),
        extra_args={"itl_s": _ITL_S},
    )
    arms = [Engram("engram", engine), Plain("plain", engine), Relay("relay", engine)]
    question = " ".join(f"word{n}" for n in range(options.max_tokens + 16))  # it is echoed
    work = options.work([question], streams)
    return await _section(
        options, arms, work, ("scripted", "The gateway alone", _SCRIPT), _COMPARED_WITH_SCRIPT
    )


SECTIONS: Mapping[str, Callable[[Options], Awaitable[Section]]] = {
    "model": with_model,
    "scripted": with_script,
}


async def _section(
    options: Options,
    arms: Sequence[Arm],
    work: Work,
    words: tuple[str, str, str],
    comparisons: Sequence[Comparison],
) -> Section:
    chosen = [arm for arm in arms if arm.name in options.arms]
    async with running(chosen, options.say):
        cases = _cases(chosen)
        measured = await measure(cases, work, options.repeats, options.say)
    ran = {case.name for case in cases}
    compared = [one for one in comparisons if {one.above, one.below} <= ran]
    return Section(*words, work, options.repeats, measured, compared)


def _cases(arms: Sequence[Arm]) -> list[Case]:
    """Those that are compared stand side by side, the modes of Engram's assistant at the end."""
    plain = [Case(arm.name, arm, arm.engine.served_name) for arm in arms]
    modes = [(arm, mode) for arm in arms if isinstance(arm, Engram) for mode in arm.modes]
    return plain + [Case(f"engram {mode}", arm, f"helpdesk:{mode}") for arm, mode in modes]


def _modes(engine: EngineSettings) -> tuple[str, ...]:
    """What the demo's assistant can do, if `engram up` sets it up for this model."""
    if engine.model != EngineSettings().model:
        return ()
    has_adapter = any((ROOT / "deploy/demo/adapters").glob("*@*"))
    return ("rag", "fine_tuned", "hybrid") if has_adapter else ("rag",)


def _has_weights(model: str) -> bool:
    """A name that is no folder is left to vLLM."""
    return not Path(model).is_absolute() or any(Path(model).glob("*.safetensors"))
