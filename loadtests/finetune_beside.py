"""What a training takes from streams beside it: `python -m loadtests.finetune_beside`.

The demo model in this process with all its streams, and the real training process beside it:
stopped, of the idle class, and merely nice, in turns, so that all arms see the same machine. Needs
Linux, and the right to undo the idle class.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import psutil

from loadtests.statistics import percentile
from serving.finetune.launch import LocalLauncher
from serving.finetune.plan import REPORTS, TRAINING, Plan
from serving.generation.vllm_engine import VllmEngine
from serving.settings import EngineSettings
from serving.types import Prompt

QUESTION = ({"role": "user", "content": "Tell me about the river."},)
SAMPLING = {"temperature": 0, "ignore_eos": True, "max_tokens": 1500}


ARMS = ("alone", "beside, idle class", "beside, nice 10")


@dataclass(slots=True)
class Turns:
    """Which arm it is now, and what was seen in each."""

    arm: str = ""
    gaps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cores: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


async def run(streams: int, turns: int, seconds: float) -> None:
    seen = Turns()
    async with VllmEngine(EngineSettings()) as engine, _training() as trainer:
        tasks = [asyncio.create_task(_stream(engine, n, seen)) for n in range(streams)]
        for turn in range(turns):
            for place in range(len(ARMS)):  # each arm comes first, second and last in its time
                arm = ARMS[(place + turn) % len(ARMS)]
                _switch(trainer, arm)
                seen.arm, before = arm, sum(trainer.cpu_times()[:2])
                await asyncio.sleep(seconds)
                seen.cores[arm].append((sum(trainer.cpu_times()[:2]) - before) / seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    _report(seen)


def _switch(trainer: psutil.Process, arm: str) -> None:
    policy = os.SCHED_OTHER if arm == ARMS[2] else os.SCHED_IDLE
    for thread in trainer.threads():
        os.sched_setscheduler(thread.id, policy, os.sched_param(0))
    trainer.send_signal(signal.SIGSTOP if arm == ARMS[0] else signal.SIGCONT)


async def _stream(engine: VllmEngine, number: int, seen: Turns) -> None:
    """One answer after the other; a gap counts for the arm that it began and ended in."""
    for answer in itertools.count():
        prompt = Prompt(f"{number}-{answer}", QUESTION, SAMPLING)
        async with aclosing(engine.generate(prompt, None)) as deltas:
            last, arm = None, ""
            async for _ in deltas:
                now = time.perf_counter()
                if last is not None and seen.arm == arm:
                    seen.gaps[arm].append(now - last)
                last, arm = now, seen.arm


@asynccontextmanager
async def _training() -> AsyncIterator[psutil.Process]:
    """A training process that has begun with its steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / TRAINING).write_text("".join(map(_line, range(400))))
        _plan().write(folder)
        running = LocalLauncher(1).launch(folder)
        try:
            while '"step"' not in _read(folder / REPORTS):
                assert running.exit_code() is None, _read(folder / REPORTS)
                await asyncio.sleep(0.2)
            children = psutil.Process().children()
            [trainer] = [one for one in children if name in one.cmdline()]
            yield trainer
        finally:
            running.kill()


def _plan() -> Plan:
    engine = EngineSettings()
    return Plan(
        stage="train",
        job="ftjob-1",
        model=engine.model,
        base_name=engine.served_name,
        context=-1,
        method="supervised",
        hyperparameters={"n_epochs": 50, "batch_size": 16},
        seed=1,
        rank=16,
        threads=1,
        idle_only=True,
        device="cpu",
        tokens_per_pass=4096,
        checkpoint_every_s=1e9,
    )


def _line(number: int) -> str:
    turns = [("user", f"What is {number}?"), ("assistant", f"It is {number}. " * 12)]
    messages = [{"role": role, "content": text} for role, text in turns]
    return json.dumps({"messages": messages}) + "\n"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _report(seen: Turns) -> None:
    print(f"{os.cpu_count()} cores; gaps between tokens of a stream")
    first = seen.gaps[ARMS[0]]
    for arm in ARMS:
        gaps = seen.gaps[arm]
        p50, p99 = (1e3 * percentile(gaps, quantile) for quantile in (50, 99))
        ratios = [percentile(gaps, q) / percentile(first, q) for q in (50, 99)]
        print(
            f"{arm}: p50 {p50:.1f} ms ({ratios[0]:.2f}), p99 {p99:.1f} ms ({ratios[1]:.2f}), "
            f"tokens {len(gaps) / len(first):.2f}, training {fmean(seen.cores[arm]):.2f} of a core"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    given = parser.parse_args()
    asyncio.run(run(given.streams, given.turns, given.seconds))


if __name__ == "__main__":
    main()
