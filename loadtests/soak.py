"""Half an hour of everything at once: `python -m loadtests.soak`. Does it fail, does it leak?

Starts Engram with state of its own, lets every journey of docs/load-testing.md run against it
(more adapters than slots, documents in and out, trainings one after another), looks at what its
processes hold every few seconds, and fits a line to each series after a warm-up. Ends with 1 if a
request failed, a process of the server was replaced, or something grows faster than its limit.
Writes docs/benchmarks/soak.md.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtests.arms import ArmError, Engram, running
from loadtests.report import Value
from loadtests.soak_report import Outcome, Soak, values, write
from loadtests.soak_samples import Sample, sample
from serving.settings import ROOT, EngineSettings, Settings
from serving.types import TenantId

SLOTS = 2  # for adapters; there are three times as many
ADAPTERS = 3 * SLOTS
KV_CACHE_GIB = 0.125  # all of it has been touched, and so is resident, within the warm-up
GRACE_S = 120.0  # for what is under way when the time is over
IDLE_S = 20.0  # after the load, so that what is still held then was left over
TENANT = TenantId("demo")


@dataclass(frozen=True, slots=True)
class Options:
    minutes: float
    warm_up: float
    users: int
    every_s: float
    fine_tune: bool
    output: Path
    say: Callable[[str], None]


async def run(options: Options) -> list[Value]:
    """The values of one soak, whose page is written.

    Raises:
        ArmError: Engram did not start.
    """
    return values(await soak(options))


async def soak(options: Options) -> Soak:
    arm = Engram("engram", _engine())
    async with running([arm], options.say):
        key = await asyncio.to_thread(_prepare, arm)
        options.say(f"{ADAPTERS} adapters for {SLOTS} slots; the load begins")
        samples, counted = await _under_load(arm, key, options)
    command = shlex.join(["python", "-m", "loadtests.soak", *sys.argv[1:]])
    kept = [one for one in samples if options.warm_up <= one.at / 60 <= options.minutes]
    result = Soak(samples, kept, counted, options.users, command)
    write(result, options.output)
    return result


def _engine() -> EngineSettings:
    return EngineSettings(max_loras=SLOTS, host_loras=0, kv_cache_gib=KV_CACHE_GIB)


def _prepare(arm: Engram) -> str:
    """Publishes adapters to the demo's tenant; returns a key that may do everything."""
    from loadtests.named_adapters import Builder
    from serving.app import open_store

    settings = Settings(engine=arm.engine, data=arm.folder / "data")
    store = open_store(settings)
    builder = Builder(Path(arm.engine.model))
    names = builder.names(ADAPTERS)
    folders = [arm.folder / "built" / name.word for name in names]
    builder.write(names, folders)
    for name, folder in zip(names, folders, strict=True):
        store.adapters.publish(TENANT, name.word, folder)
    key = store.keys.create(TENANT, "soak", ("inference", "admin"))
    store.ledger.close()
    return key


async def _under_load(arm: Engram, key: str, options: Options) -> tuple[list[Sample], Outcome]:
    samples: list[Sample] = []
    async with _locust(arm, key, options) as process, _client(arm) as http:
        began = time.monotonic()
        while process.returncode is None:
            samples.append(await _look(arm, http, time.monotonic() - began))
            options.say(_words(samples[-1]))
            await _ended(process, options.every_s)
            if time.monotonic() - began > options.minutes * 60 + GRACE_S:
                raise arm.error("Locust does not end")
        await asyncio.sleep(IDLE_S)
        samples.append(await _look(arm, http, time.monotonic() - began))
    return samples, outcome(arm, process.returncode)


@asynccontextmanager
async def _locust(
    arm: Engram, key: str, options: Options
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Every journey, with a table and failures as CSV in the arm's folder."""
    url = f"http://{arm.target.host}:{arm.target.port}/v1"
    environ = os.environ | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
    with (arm.folder / "locust.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py")),
            *("--headless", "--only-summary", "--csv", str(arm.folder / "locust")),
            *("--users", str(options.users), "--spawn-rate", "2"),
            *("--run-time", f"{options.minutes * 60:.0f}s", "--stop-timeout", "15"),
            *(("--fine-tune", arm.engine.served_name) if options.fine_tune else ()),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _client(arm: Engram) -> httpx.AsyncClient:
    url = f"http://{arm.target.host}:{arm.target.port}"
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=60)


async def _look(arm: Engram, http: httpx.AsyncClient, at: float) -> Sample:
    metrics = (await http.get("/metrics")).text
    return await asyncio.to_thread(sample, at, arm.tree, metrics, arm.folder / "data")


async def _ended(process: asyncio.subprocess.Process, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await process.wait()
    except TimeoutError:
        pass


def outcome(arm: Engram, code: int | None) -> Outcome:
    """What Locust counted.

    Raises:
        ArmError: it wrote no table.
    """
    table, failures = (_rows(arm.folder / f"locust_{kind}.csv") for kind in ("stats", "failures"))
    if not table:
        log = (arm.folder / "locust.log").read_text(errors="replace")
        raise arm.error(f"Locust ended with {code} and no table:\n{log[-2000:]}")
    counts = {(row["Type"], row["Name"]): int(row["Request Count"]) for row in table}
    said = [f"{r['Method']} {r['Name']}: {r['Error']} ({r['Occurrences']} ×)" for r in failures]
    return Outcome(counts, said, code)


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def _words(one: Sample) -> str:
    memory = sum(held.memory for held in one.processes.values())
    fds = sum(held.fds for held in one.processes.values())
    tasks = sum(one.tasks.values())
    return f"minute {one.at / 60:.1f}: {memory:.0f} MiB, {fds} fds, {tasks:.0f} tasks"


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=30.0, help="of load (30)")
    add("--warm-up", type=float, default=5.0, help="minutes that no slope counts (5)")
    add("--users", type=int, default=13, help="at once (13, the shares of all journeys)")
    add("--every-s", type=float, default=10.0, help="seconds between two samples (10)")
    add("--no-fine-tune", dest="fine_tune", action="store_false", help="without trainings")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/soak.md", help="the page")
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    return Options(**vars(parser.parse_args(arguments)), say=say)


def main() -> int:
    options = parse()
    try:
        result = asyncio.run(soak(options))
    except ArmError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    for problem in result.problems:
        options.say(problem)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
