"""`make bench` and `make bench-full`: what Engram costs beside what one would run instead.

Every table is on disk as soon as it is measured: docs/benchmarks/gateway.md with its charts, and
loadtests/results/. A section that fails is reported and the others go on; run it again with
`--sections NAME`, which keeps the results of the others. Ctrl-C stops every server it started.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from loadtests import records
from loadtests.charts import charts
from loadtests.progress import Progress
from loadtests.records import Made, Record, record
from loadtests.report import commit, hardware
from loadtests.section import Options
from loadtests.sections import ARMS, KEYS, SECTIONS
from loadtests.selftest import selftest
from serving.settings import ROOT


async def bench(options: Options, progress: Progress) -> int:
    """Runs the sections; 1 if the client, a section or a request failed."""
    load_average, tested = os.getloadavg()[0], await selftest()
    made = _made(load_average, str(tested))
    options.say(str(tested))
    problems = [] if tested.passed else [str(tested)]
    for name in options.sections:
        progress.enter(name, SECTIONS[name].words)
        problems += await _section(name, options, made)
    for problem in problems[:20]:
        options.say(f"problem: {problem}")
    options.say(f"written: {options.output} and {options.results}")
    return 1 if problems else 0


async def _section(name: str, options: Options, made: Made) -> list[str]:
    """Keeps its tables as they come; what went wrong, in words."""
    problems: list[str] = []
    try:
        async with aclosing(SECTIONS[name].tables(options)) as tables:
            async for table in tables:
                _keep(record(table, made), options)
                problems += [f"{table.key}: {error}" for error in table.errors]
    except Exception as error:  # noqa: BLE001 - whatever it is, the other sections go on
        options.say(f"section {name} FAILED: {error}")
        traceback.print_exc()
        problems.append(f"{name}: {str(error).splitlines()[0]}")
    return problems


def _keep(new: Record, options: Options) -> None:
    """On disk at once: the record, all values, the page."""
    path = options.results / "gateway.json"
    kept = records.merged(records.read(path), [new], KEYS)
    records.write(kept, path)
    records.write_values(kept, options.results / "latest.json")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    drawn = charts(kept)
    for file, text in drawn.items():
        options.output.with_name(file).write_text(text)
    options.output.write_text(records.page(kept, list(drawn)))
    for line in new.ratios:
        options.say(line.strip("| ").replace(" | ", "  "))


def _made(load_average: float, tested: str) -> Made:
    return Made(
        hardware(),
        commit(),
        f"{datetime.now(UTC):%Y-%m-%d}",
        shlex.join(["python", "-m", "loadtests.bench", *sys.argv[1:]]),
        load_average,
        tested,
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    about = "\n".join(f"  {name:<14} {section.words}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description=f"{__doc__}\nsections:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--full", action="store_true", help="all sections and loads (half an hour)")
    add("--sections", nargs="+", choices=SECTIONS, help="only these")
    add("--arms", nargs="+", choices=ARMS, default=ARMS, help="only these servers")
    add("--repeats", type=int, default=5, help="turns of each server (5)")
    add("--seconds", type=float, help="of one turn (2; 3 with --full)")
    add("--max-tokens", type=int, default=64, help="of every answer (64)")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/gateway.md", help="the page")
    add("--results", type=Path, default=ROOT / "loadtests/results", help="folder of the values")
    chosen = parser.parse_args(arguments)
    chosen.seconds = chosen.seconds or (3.0 if chosen.full else 2.0)
    if chosen.sections is None:
        chosen.sections = [n for n, one in SECTIONS.items() if one.expected_s(chosen.full)]
    return chosen


async def _run(options: Options, progress: Progress) -> int:
    """Stops in order on Ctrl-C and SIGTERM; the second one does not cut that short."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    return await bench(options, progress)


def main() -> int:
    chosen = parse()
    expected = {name: SECTIONS[name].expected_s(chosen.full) for name in chosen.sections}
    progress = Progress(expected)
    options = Options(**vars(chosen), say=progress.say)
    try:
        return uvloop.run(_run(options, progress))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("bench: stopped; what was measured is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
