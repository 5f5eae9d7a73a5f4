"""`make bench`: what a streamed token costs in Engram, and in what one would run instead.

With the real model every arm runs the same vLLM engine; with a scripted engine the model costs
nothing and the gateway stands alone. Writes docs/benchmarks/gateway.md and
loadtests/results/latest.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from loadtests.arms import ArmError
from loadtests.report import markdown, write
from loadtests.sections import ARMS, SECTIONS, Options
from loadtests.selftest import selftest
from serving.settings import ROOT, EngineSettings


async def bench(options: Options) -> int:
    """Runs everything; 1 if the client or any request failed."""
    load_before = os.getloadavg()[0]
    tested = await selftest()
    options.say(str(tested))
    sections = [await SECTIONS[name](options) for name in options.sections]
    command = shlex.join(["python", "-m", "loadtests.bench", *sys.argv[1:]])
    text = markdown(sections, str(tested), command, load_before)
    write(sections, text, options.output, options.results)
    print("\n" + text)
    errors = [error for section in sections for error in section.measured.errors]
    for error in errors[:10]:
        options.say(f"error: {error}")
    return 0 if tested.passed and not errors else 1


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    add = parser.add_argument
    add("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    add("--streams", type=int, default=16, help="concurrent streams with the model (16)")
    add("--scripted-streams", type=int, default=64, help="and with the scripted engine (64)")
    add("--requests-per-stream", type=int, default=3, help="in one turn, on average (3)")
    add("--max-tokens", type=int, default=64, help="of every answer (64)")
    add("--repeats", type=int, default=5, help="turns of each arm (5)")
    add("--model", default=EngineSettings().model, help="folder of another model")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/gateway.md")
    add("--results", type=Path, default=ROOT / "loadtests/results/latest.json")
    return Options(**vars(parser.parse_args(arguments)), say=_clock())


def _clock() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)


async def _run(options: Options) -> int:
    """Stops in order on Ctrl-C and SIGTERM; the second one does not cut that short."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    return await bench(options)


def main() -> int:
    options = parse()
    try:
        return uvloop.run(_run(options))
    except ArmError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
