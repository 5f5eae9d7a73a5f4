"""Finds the load at which Engram is full, and offers several times that.

An open loop, since users do not ask less because others wait. Rates rise until goodput under the
SLO no longer does: the knee. Then the knee, twice and five times its rate take turns:
`python -m loadtests.overload`. Writes docs/benchmarks/overload.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from loadtests.arms import ArmError, Engram, running
from loadtests.client import Target, closed_loop
from loadtests.load import Load
from loadtests.open_loop import open_loop
from loadtests.processes import Tree
from loadtests.report import Value
from loadtests.schedule import poisson
from loadtests.scripted_worker import scripted
from loadtests.timing import Slo
from serving.settings import ROOT, AdmissionSettings, EngineSettings, Settings, to_environ

RUNGS = (0.5, 0.7, 0.85, 1.0, 1.2)  # of what a closed loop with every slot taken gets through
MULTIPLES = (1.0, 2.0, 5.0)  # of the knee's rate
SLO = Slo(ttft=1000.0, tpot=50.0)
REST_S = 1.0  # between two loads, for what still runs


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose; `repeats` turns of `seconds` for every multiple."""

    seconds: float = 6.0
    repeats: int = 3
    max_tokens: int = 64
    slots: int = 64
    slo: Slo = SLO
    engine: str = "vllm"
    hold_minutes: float = 0.0
    output: Path = ROOT / "docs/benchmarks/overload.md"
    say: Callable[[str], None] = print


@dataclass
class Limited(Engram):
    """Engram with limits of its own."""

    admission: AdmissionSettings = field(default_factory=AdmissionSettings)

    def variables(self) -> Mapping[str, str]:
        ours = to_environ(Settings(admission=self.admission))
        limits = {name: value for name, value in ours.items() if "_ADMISSION__" in name}
        return {**super().variables(), **limits}


@dataclass(frozen=True, slots=True)
class Step:
    """One rate for a while: what became of the requests, and what the server spent."""

    multiple: float  # of the knee; 0 while it is looked for
    rate: float  # requests per second
    load: Load
    cpu_s: Mapping[str, float]  # by role of the process
    memory_mib: float  # of all processes, afterwards

    def goodput(self, slo: Slo) -> float:
        return self.load.goodput(slo)

    @property
    def cpu_us_per_s(self) -> float:
        return sum(self.cpu_s.values()) / self.load.wall_s * 1e6


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that was seen of one server."""

    capacity: float  # requests per second of the closed loop
    ladder: Sequence[Step]
    knee: Step
    turns: Sequence[Step]

    def at(self, multiple: float) -> list[Step]:
        return [step for step in self.turns if step.multiple == multiple]


def knee(ladder: Sequence[Step], slo: Slo) -> Step:
    """The rate that brought the highest goodput; the load beyond which more brings no more."""
    return max(ladder, key=lambda step: step.goodput(slo))


async def find(target: Target, tree: Tree, options: Options) -> Found:
    """The knee of a server that runs, and turns at its multiples."""
    requests = _requests(target, options)
    await closed_loop(target, _some(requests, options.slots), options.slots)  # it is warm then
    full = await closed_loop(target, _some(requests, 6 * options.slots), options.slots)
    capacity = len(full.completed) / full.wall_s
    if not capacity:
        raise ArmError(f"no request succeeded: {full.errors[0]}")
    options.say(f"a closed loop with {options.slots} slots taken: {capacity:.1f} requests/s")

    async def step(multiple: float, rate: float, seed: int) -> Step:
        await asyncio.sleep(REST_S)
        before = await asyncio.to_thread(tree.cpu)
        load = await open_loop(target, requests, poisson(rate, options.seconds, seed))
        cpu_s = (await asyncio.to_thread(tree.cpu)).since(before)
        done = Step(multiple, rate, load, cpu_s, await asyncio.to_thread(memory_mib, tree))
        options.say(words(done, options.slo))
        return done

    ladder = [await step(0.0, rung * capacity, n) for n, rung in enumerate(RUNGS)]
    top = knee(ladder, options.slo)
    turns = [
        await step(multiple, multiple * top.rate, 100 + turn)
        for turn in range(options.repeats)
        for multiple in MULTIPLES
    ]
    return Found(capacity, ladder, top, turns)


async def hold(target: Target, tree: Tree, rate: float, options: Options) -> list[Step]:
    """One rate for minutes, a minute at a time, to see whether memory stays."""
    requests, steps = _requests(target, options), []
    for minute in range(round(options.hold_minutes)):
        before = await asyncio.to_thread(tree.cpu)
        load = await open_loop(target, requests, poisson(rate, 60.0, 1000 + minute))
        cpu_s = (await asyncio.to_thread(tree.cpu)).since(before)
        memory = await asyncio.to_thread(memory_mib, tree)
        steps.append(Step(MULTIPLES[-1], rate, load, cpu_s, memory))
        options.say(f"minute {minute + 1}: {words(steps[-1], options.slo)}")
    return steps


def words(step: Step, slo: Slo) -> str:
    load = step.load
    name = f"{step.multiple:g} × knee" if step.multiple else "ladder"
    return (
        f"{name:<9} {load.offered:7.1f}/s offered, {step.goodput(slo):6.1f}/s good, "
        f"{len(load.refused) / len(load.answers):4.0%} refused, {len(load.errors)} failed, "
        f"{step.memory_mib:.0f} MiB, client {load.client_share:.0%} of a core"
    )


def memory_mib(tree: Tree) -> float:
    """Resident, what processes share counted in each of them."""
    total = 0
    for process in tree.processes():
        try:
            total += process.memory_info().rss
        except psutil.Error:
            pass  # it just ended
    return total / 2**20


def _requests(target: Target, options: Options) -> Iterator[bytes]:
    """Different questions, so that no prefix is cached, all answered with as many tokens."""
    number = 0
    while True:
        number += 1
        yield target.request(
            {
                "model": EngineSettings().served_name,
                "messages": [{"role": "user", "content": f"{number}: where do I badge in?"}],
                "max_tokens": options.max_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )


def _some(requests: Iterator[bytes], count: int) -> list[bytes]:
    return [next(requests) for _ in range(count)]


@asynccontextmanager
async def engram(options: Options) -> AsyncIterator[Limited]:
    """A server whose slots are as many as the engine decodes together."""
    engine = {
        "vllm": scripted(max_num_seqs=options.slots),
        "model": EngineSettings(max_num_seqs=options.slots),
        "scripted": EngineSettings(
            kind="scripted",
            max_num_seqs=options.slots,
            extra_args={"ttft_s": 0.2, "itl_s": 0.0},
        ),
    }[options.engine]
    wait_s = options.slo.ttft / 2e3  # who waits longer than the SLO is answered for nothing
    limits = AdmissionSettings(max_running=options.slots, max_wait_s=wait_s)
    arm = Limited("engram", engine, admission=limits)
    async with running([arm], options.say):
        yield arm


async def run(options: Options) -> list[Value]:
    """Measures, writes the page, and returns what the next run is compared with."""
    from loadtests import overload_report

    load_average = os.getloadavg()[0]
    async with engram(options) as arm:
        found = await find(arm.target, arm.tree, options)
        held = await hold(arm.target, arm.tree, MULTIPLES[-1] * found.knee.rate, options)
    overload_report.write(found, held, options, load_average)
    return overload_report.values(found, options)


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m loadtests.overload", description=__doc__)
    add, default = parser.add_argument, Options()
    add("--seconds", type=float, default=default.seconds, help="of one turn (6)")
    add("--repeats", type=int, default=default.repeats, help="turns of each multiple (3)")
    add("--max-tokens", type=int, default=default.max_tokens, help="of every answer (64)")
    add("--slots", type=int, default=default.slots, help="requests that generate at once (64)")
    add("--ttft-slo-ms", type=float, default=default.slo.ttft, help="a good answer's (1000)")
    add("--tpot-slo-ms", type=float, default=default.slo.tpot, help="a good answer's (50)")
    add(
        "--engine",
        choices=("vllm", "model", "scripted"),
        default=default.engine,
        help="vLLM around a model that costs nothing, vLLM with the demo model, or no vLLM (vllm)",
    )
    add("--hold-minutes", type=float, default=0.0, help="five times the knee afterwards (0)")
    add("--output", type=Path, default=default.output, help="the page")
    given = vars(parser.parse_args(arguments))
    slo = Slo(ttft=given.pop("ttft_slo_ms"), tpot=given.pop("tpot_slo_ms"))
    return Options(slo=slo, say=_clock(), **given)


def _clock() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)


def failures(found: Sequence[Value]) -> list[str]:
    """Requests that were neither answered nor refused, in words."""
    failed = (one for one in found if one.name.endswith(".failed") and one.value)
    return [f"{one.value:.0f} {one.name}" for one in failed]


def main() -> int:
    try:
        found = uvloop.run(run(parse()))
    except ArmError as error:
        print(f"overload: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("overload: stopped", file=sys.stderr)
        return 130
    for problem in failures(found):
        print(f"overload: {problem}", file=sys.stderr)
    return 1 if failures(found) else 0


if __name__ == "__main__":
    sys.exit(main())
