"""Many named adapters through few slots of one gateway with the real engine, over HTTP."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import uvicorn

from loadtests.named_adapters import Builder
from serving.app import create_gateway, create_retriever, open_store
from serving.settings import EngineSettings, RetrievalSettings, Settings
from serving.types import TenantId

TENANT = TenantId("churn")
TOKENS = 12
SKEW = 1.1  # of the Zipf law by which adapters are asked for
QUESTIONS = ("Who are you?", "What is your name?", "Tell me about the river.", "Hello!")


@dataclass(frozen=True, slots=True)
class Options:
    adapters: int
    slots: int
    clients: int
    minutes: float


@dataclass(slots=True)
class Seen:
    """What came of the requests. `wrong` holds answers that were not the asked adapter's name."""

    asked: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


async def run(folder: Path, options: Options) -> int:
    """Prints what happened; 0 if nothing went wrong."""
    settings = Settings(
        data=folder,
        engine=EngineSettings(max_loras=options.slots),
        retrieval=RetrievalSettings(embedder="hashing"),
    )
    words, key = _publish(settings, options.adapters)
    headers = {"authorization": f"Bearer {key}"}
    async with (
        _serving(settings) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as client,
    ):
        memory = [_engine_mib()]
        seen = await _load(client, words, options)
        memory.append(_engine_mib())
        metrics = _totals((await client.get("/metrics")).text)
        held = (await client.get("/admin/residency")).json()["data"]
    _print(options, seen, metrics, memory, len(held))
    return 1 if seen.errors or seen.wrong else 0


def _publish(settings: Settings, count: int) -> tuple[list[str], str]:
    """Names that are adapters now, and a key."""
    store = open_store(settings)
    store.keys.ensure_tenant(TENANT)
    builder = Builder(Path(settings.engine.model))
    names = builder.names(count)
    folders = [settings.data / "built" / name.word for name in names]
    builder.write(names, folders)
    for name, folder in zip(names, folders, strict=True):
        store.adapters.publish(TENANT, name.word, folder)
    store.ledger.close()
    return [name.word for name in names], store.keys.create(TENANT, "load", ("inference", "admin"))


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with create_retriever(settings) as retriever:
        app = create_gateway(settings, retriever)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        task = asyncio.create_task(server.serve())
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.1)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


async def _load(client: httpx.AsyncClient, words: Sequence[str], options: Options) -> Seen:
    seen, until = Seen(), time.monotonic() + 60 * options.minutes
    weights = [1 / rank**SKEW for rank in range(1, len(words) + 1)]

    async def ask_on(chance: random.Random) -> None:
        while time.monotonic() < until:
            [word] = chance.choices(words, weights)
            await _ask(client, word, chance.choice(QUESTIONS), seen)

    await asyncio.gather(*(ask_on(random.Random(seed)) for seed in range(options.clients)))
    return seen


async def _ask(client: httpx.AsyncClient, word: str, question: str, seen: Seen) -> None:
    body = {
        "model": f"{word}@1",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
    }
    seen.asked[word] += 1
    try:
        answer = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        seen.errors[type(error).__name__] += 1
        return
    if answer.is_error:
        seen.errors[f"{answer.status_code} {answer.json()['error']['code']}"] += 1
        return
    text = answer.json()["choices"][0]["message"]["content"]
    if text.replace(" ", "") != word * TOKENS:
        seen.wrong.append(f"{word}: {text}")
    if answer.headers["engram-adapter"] != f"{word}@1":
        seen.wrong.append(f"{word}: header {answer.headers['engram-adapter']}")


def _engine_mib() -> float:
    """Resident memory of the engine's own process."""
    cores = [p for p in psutil.Process().children() if "EngineCore" in " ".join(p.cmdline())]
    return sum(core.memory_info().rss for core in cores) / 2**20


def _totals(text: str) -> Mapping[str, float]:
    """Counters of adapters, summed over what is not told apart here."""
    found: dict[str, float] = defaultdict(float)
    for name, value in _samples(text):
        found[name] += value
    return found


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        if line.startswith("engram_adapter_"):
            name, _, value = line.rpartition(" ")
            family, _, labels = name.partition("{")
            wanted = family.endswith("_leases_total")
            yield (f"{family} {labels.strip('}')}" if wanted else family), float(value)


def _print(
    options: Options, seen: Seen, metrics: Mapping[str, float], memory: Sequence[float], held: int
) -> None:
    hits, misses = (
        metrics.get(f'engram_adapter_leases_total result="{result}"', 0.0)
        for result in ("hit", "miss")
    )
    loads = metrics.get("engram_adapter_load_seconds_count", 0.0)
    seconds = metrics.get("engram_adapter_load_seconds_sum", 0.0)
    lines = {
        "adapters, slots, clients": f"{options.adapters}, {options.slots}, {options.clients}",
        "requests": f"{seen.asked.total()} for {len(seen.asked)} adapters",
        "errors": f"{seen.errors.total()} {dict(seen.errors) or ''}",
        "wrong answers": f"{len(seen.wrong)} {seen.wrong[:3] or ''}",
        "loads": f"{loads:g}, mean {1000 * seconds / max(1, loads):.1f} ms",
        "evictions": f"{metrics.get('engram_adapter_evictions_total', 0):g}",
        "hit rate": f"{hits / max(1, hits + misses):.2f}",
        "adapters held at the end": str(held),
        "engine's memory, MiB": " → ".join(f"{mib:.0f}" for mib in memory),
    }
    for name, value in lines.items():
        print(f"{name:26}{value}")
