"""`python -m loadtests.retrieval`: retrieval by itself, with no language model.

Recall against exact search, batched against one by one, searches while files come in, how soon a
write is found, memory, rebuilding; on a GPU, the share of its roofline. Writes
docs/benchmarks/retrieval.md, its chart and loadtests/results/retrieval.json.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path

import httpx
import orjson
import uvloop

from loadtests import retrieval_gpu, retrieval_index, retrieval_service
from loadtests.retrieval_data import Corpus
from loadtests.retrieval_report import CHART, Measured, chart, markdown, values
from loadtests.retrieval_search import Turn, closed_loop
from loadtests.retrieval_service import Options
from loadtests.retrieval_world import World, filled
from serving.retrieval.faiss_index import has_gpu
from serving.settings import ROOT

PARTS = ("batching", "ingesting", "freshness", "kinds", "capacity", "gpu")
_LARGEST_REBUILD = 100_000  # HNSW takes minutes beyond


async def run(chosen: argparse.Namespace) -> Measured:
    say = _clock()
    corpus = Corpus(chosen.chunks, chosen.dim)
    command = shlex.join(["python", "-m", "loadtests.retrieval", *sys.argv[1:]])
    found = Measured(corpus, command, os.getloadavg()[0])
    options = Options(chosen.clients, chosen.seconds, chosen.repeats, say)
    if {"batching", "ingesting", "freshness", "capacity"} & set(chosen.parts):
        with filled(corpus, say) as world:
            await _through_the_retriever(world, options, chosen.parts, found)
    if "kinds" in chosen.parts:
        found.built, found.points = retrieval_index.points(corpus, chosen.repeats)
        smaller = replace(corpus, chunks=min(corpus.chunks, _LARGEST_REBUILD))
        found.rebuilt = retrieval_index.rebuilt(smaller)
        say("kinds of index are measured")
    if "capacity" in chosen.parts:
        found.parts = retrieval_index.parts(corpus)
    if "gpu" in chosen.parts and has_gpu():
        found.gpu = list(retrieval_gpu.measure(say))
    if chosen.passages and chosen.questions:
        found.quality = _labelled(chosen.passages, chosen.questions)
    if chosen.server:
        found.http = await _over_http(chosen, corpus, options)
    return found


async def _through_the_retriever(
    world: World, options: Options, parts: Sequence[str], found: Measured
) -> None:
    if "capacity" in parts:
        found.started = await retrieval_service.started(world)
    if "batching" in parts:
        found.batching["exact vector search alone"] = await retrieval_service.index_alone(
            world, options
        )
        found.batching[
            "the whole search, vectors of the questions known"
        ] = await retrieval_service.whole(world, options, None)
        embedder = retrieval_service.real_embedder(world)
        if embedder is not None:
            found.batching[
                "the whole search, questions embedded by all-MiniLM-L6-v2"
            ] = await retrieval_service.whole(world, options, embedder)
    if "ingesting" in parts:
        found.ingesting = await retrieval_service.while_ingesting(world, options)
    if "freshness" in parts:
        found.freshness = await retrieval_service.freshness(world)
        options.say("freshness is measured")


def _labelled(passages: Path, questions: Path) -> dict[str, dict[str, float]]:
    """The product's own evaluation, as a user would run it."""
    arguments = ("--passages", str(passages), "--questions", str(questions), "--json")
    command = (sys.executable, "-m", "serving.cli", "evaluate", "retrieval", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"evaluate retrieval failed: {done.stderr[-500:]}")
    table: dict[str, dict[str, float]] = orjson.loads(done.stdout)
    return table


async def _over_http(
    chosen: argparse.Namespace, corpus: Corpus, options: Options
) -> dict[int, Sequence[Turn]]:
    """Of a store that is there already; the client's own cost is in the times."""
    questions = corpus.question_texts(1_000)
    path = f"{chosen.server.rstrip('/')}/v1/vector_stores/{chosen.store}/search"
    headers = {"authorization": f"Bearer {chosen.api_key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=60) as client:

        async def ask(number: int) -> None:
            answer = await client.post(path, json={"query": questions[number]})
            answer.raise_for_status()

        numbers = cycle(range(len(questions)))
        return {
            clients: [
                await closed_loop(ask, clients, options.seconds, numbers)
                for _ in range(options.repeats)
            ]
            for clients in options.clients
        }


def write(found: Measured, document: Path, results: Path) -> str:
    """Writes the page, its chart and the values; returns the page."""
    text = markdown(found)
    for folder in (document.parent, results.parent):
        folder.mkdir(parents=True, exist_ok=True)
    document.write_text(text)
    if found.points:
        document.with_name(CHART).write_text(chart(found.points))
    lines = b",\n".join(orjson.dumps(asdict(value)) for value in values(found))
    results.write_bytes(b"[\n" + lines + b"\n]\n")
    return text


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.retrieval", description=__doc__)
    add = parser.add_argument
    add("--chunks", type=int, default=100_000)
    add("--dim", type=int, default=384, help="384 embeds with the real model, others without")
    add("--clients", type=int, nargs="+", default=[1, 8, 32])
    add("--seconds", type=float, default=6.0, help="of one turn (6)")
    add("--repeats", type=int, default=7, help="turns of each arm (7)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--quick", action="store_true", help="5,000 × 64 and short turns: does it run?")
    add("--passages", type=Path, help="labelled passages, with --questions")
    add("--questions", type=Path, help="labelled questions, with --passages")
    add("--server", help="address of a running server, with --store and --api-key")
    add("--store", help="vector store to search there")
    add("--api-key", default="")
    add("--output", type=Path, default=ROOT / "docs/benchmarks/retrieval.md")
    add("--results", type=Path, default=ROOT / "loadtests/results/retrieval.json")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.chunks, chosen.dim, chosen.seconds, chosen.repeats = 5_000, 64, 0.5, 2
    if chosen.server and not chosen.store:
        parser.error("--server needs --store: the vector store to search")
    return chosen


def _clock() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)


def main() -> int:
    chosen = parse()
    found = uvloop.run(run(chosen))
    print("\n" + write(found, chosen.output, chosen.results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
