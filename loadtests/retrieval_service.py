"""The retriever as a whole: batched against one by one, while files come in, and how soon a write
is found.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle

import numpy as np
import psutil

from loadtests.retrieval_search import Ask, Turn, Turns, closed_loop, compare, open_loop, qps
from loadtests.retrieval_world import MINILM_DIM, World
from serving.retrieval.embedder import Embedder
from serving.retrieval.index import Keys
from serving.retrieval.index_kinds import cpu_flat
from serving.retrieval.local_retriever import LocalRetriever
from serving.retrieval.owner_thread import OwnerThread

ONE_BY_ONE, BATCHED = "one by one", "batched"
IDLE, INGESTING = "idle", "ingesting"
CANDIDATES = 20
NEVER_S = 1e6
_OPEN_SHARE = 0.3  # of what it can do, so that waiting is for work and not for a queue
_READS = 20
_WORDS_PER_FILE = 600

Batching = Mapping[int, Turns]  # by clients


@dataclass(frozen=True, slots=True)
class Options:
    clients: Sequence[int]
    seconds: float  # of one turn
    repeats: int
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Started:
    """A retriever that reads everything from SQL."""

    seconds: float
    bytes_per_chunk: float


@dataclass(frozen=True, slots=True)
class Ingesting:
    per_s: float  # searches, at random moments
    turns: Turns
    files: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """Milliseconds from a moment to the search that shows it."""

    consistent_ms: Sequence[float]  # from the commit, by a search that asks for the newest
    followed_ms: Sequence[float]  # from the commit, by searches that do not
    attached_ms: Sequence[float]  # from attaching a file, through the worker
    deleted_seen: int  # deleted files that a next search still showed


async def index_alone(world: World, options: Options) -> Batching:
    """Vectors in, keys out, through the owner thread: what batching does for exact search."""
    index = cpu_flat(world.corpus.dim, threads=1)
    index.add(np.arange(world.corpus.chunks), world.corpus.vectors())
    asked = world.known.embed(world.questions)

    def run(rows: Sequence[int]) -> list[Keys]:
        return list(index.search(asked[list(rows)], CANDIDATES).keys)

    owners = {name: OwnerThread(run, name, size) for name, size in _SIZES.items()}
    for owner in owners.values():
        owner.start()
    try:
        return await _batching({n: o.submit for n, o in owners.items()}, world, options)
    finally:
        for owner in owners.values():
            owner.stop()


async def whole(world: World, options: Options, embedder: Embedder | None) -> Batching:
    """Searches as the gateway asks them. Without an embedder the vectors are known already, as by
    a repeated question or where a GPU embeds."""
    async with (
        world.retriever(embedder, max_batch=1, poll_interval_s=NEVER_S) as single,
        world.retriever(embedder, poll_interval_s=NEVER_S) as batched,
    ):
        arms = {ONE_BY_ONE: _asker(world, single), BATCHED: _asker(world, batched)}
        return await _batching(arms, world, options)


async def started(world: World) -> Started:
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    async with world.retriever(poll_interval_s=NEVER_S):
        seconds = time.perf_counter() - began
        grown = psutil.Process().memory_info().rss - before
    return Started(seconds, grown / world.corpus.chunks)


async def while_ingesting(world: World, options: Options) -> Ingesting:
    """Open loop, idle and ingesting in turns, the worker in a process of its own."""
    async with world.retriever() as retriever, world.worker() as attach:
        ask = _asker(world, retriever)
        numbers = _numbers(world)
        capacity = await closed_loop(ask, max(options.clients), options.seconds, numbers)
        per_s = max(5.0, _OPEN_SHARE * qps([capacity]).value)
        turns: dict[str, list[Turn]] = {IDLE: [], INGESTING: []}
        files = count()
        ingested: list[str] = []
        for repeat in range(options.repeats):
            load = (ask, per_s, options.seconds, numbers, repeat)
            turns[IDLE].append(await open_loop(*load))
            async with _stream_of_files(world, attach, files, ingested):
                turns[INGESTING].append(await open_loop(*load))
            options.say(f"ingesting, turn {repeat + 1}: {len(ingested)} files")
        chunks = sum(world.chunks_of(file_id) for file_id in ingested)
        return Ingesting(per_s, turns, len(ingested), chunks)


@asynccontextmanager
async def _stream_of_files(
    world: World, attach: Callable[[str, str], str], files: Iterator[int], ingested: list[str]
) -> AsyncIterator[None]:
    """The next file comes when the last is done, so that the worker always has one; on leaving,
    the last is waited for."""
    ending = asyncio.Event()

    async def stream() -> None:
        while not ending.is_set():
            number = next(files)
            text = world.text(number, _WORDS_PER_FILE)
            file_id = await asyncio.to_thread(attach, f"new-{number}.md", text)
            await world.completed(file_id)
            ingested.append(file_id)

    async with asyncio.TaskGroup() as group:
        group.create_task(stream())
        try:
            yield
        finally:
            ending.set()


async def freshness(world: World) -> Freshness:
    consistent, followed, attached, deleted_seen = [], [], [], 0

    async def written(word: str) -> str:
        return await asyncio.to_thread(world.write, f"{word}.md", [word], world.known.embed([word]))

    async with world.retriever() as retriever, world.worker() as attach:
        for n in range(_READS):
            word = f"consistent{n}"
            file_id = await written(word)
            consistent.append(await _until_found(world, retriever, word, file_id, True))
            await asyncio.to_thread(world.remove, file_id)
            deleted_seen += await _finds(world, retriever, word, file_id, False)
            word = f"followed{n}"
            file_id = await written(word)
            followed.append(await _until_found(world, retriever, word, file_id, False))
            word, began = f"attached{n}", time.perf_counter()
            file_id = await asyncio.to_thread(attach, f"{word}.md", word)
            await world.completed(file_id)
            await _until_found(world, retriever, word, file_id, True)
            attached.append((time.perf_counter() - began) * 1e3)
    return Freshness(consistent, followed, attached, deleted_seen)


async def _until_found(
    world: World, retriever: LocalRetriever, word: str, file_id: str, consistent: bool
) -> float:
    began = time.perf_counter()
    while not await _finds(  # noqa: ASYNC110 — another process wrote it
        world, retriever, word, file_id, consistent
    ):
        await asyncio.sleep(0.005)
    return (time.perf_counter() - began) * 1e3


async def _finds(
    world: World, retriever: LocalRetriever, word: str, file_id: str, consistent: bool
) -> bool:
    found = await retriever.search(world.search(word, consistent=consistent, limit=20))
    return any(passage.file_id == file_id for passage in found.passages)


def real_embedder(world: World) -> Embedder | None:
    """The model, where the vectors are of its length."""
    if world.corpus.dim != MINILM_DIM:
        return None
    from serving.retrieval.minilm_embedder import MiniLmEmbedder

    return MiniLmEmbedder()


_SIZES = {ONE_BY_ONE: 1, BATCHED: 64}


async def _batching(arms: Mapping[str, Ask], world: World, options: Options) -> Batching:
    measured: dict[int, Turns] = {}
    for clients in options.clients:
        numbers = _numbers(world)
        measured[clients] = await compare(arms, clients, options.seconds, options.repeats, numbers)
        options.say(
            f"{clients} clients: "
            + ", ".join(f"{name} {qps(t).value:.0f}/s" for name, t in measured[clients].items())
        )
    return measured


def _asker(world: World, retriever: LocalRetriever) -> Ask:
    return lambda number: retriever.search(world.search(world.questions[number]))


def _numbers(world: World) -> Iterator[int]:
    """All questions before one comes again: none is remembered."""
    return cycle(range(len(world.questions)))
