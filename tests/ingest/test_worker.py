"""The worker: every attached file comes to an end, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import get_context

from serving.ingest.worker import IngestWorker
from serving.retrieval.embedder import HashingEmbedder, Vectors
from serving.settings import IngestSettings, RetrievalSettings
from serving.store.chunks import StoredChunk, follow
from serving.store.database import Database
from serving.store.models import VectorStoreFileRow
from serving.store.objects import FolderObjects
from serving.store.vector_stores import FileStatus, VectorStoreFile
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, World

LEASE_S = 0.5


def chunks(world: World) -> list[StoredChunk]:
    return [piece for changes in follow(world.db, 0) for piece in changes.chunks]


def attach(world: World, name: str, data: bytes) -> str:
    file = world.files.create(ACME, name, data)
    world.stores.attach(ACME, world.store, file.id)
    return file.id


async def ended(world: World, file_id: str) -> VectorStoreFile:
    while True:
        file = world.stores.file(ACME, world.store, file_id)
        if file.status is not FileStatus.IN_PROGRESS:
            return file
        await asyncio.sleep(0.01)


async def test_an_attached_file_is_completed(world: World) -> None:
    file_id = attach(world, "leave.md", LEAVE)
    async with world.worker():
        file = await ended(world, file_id)
    assert (file.status, file.chunks) == (FileStatus.COMPLETED, 2)
    assert {piece.title for piece in chunks(world)} == {"Leave"}


async def test_a_file_that_cannot_be_read_fails_and_the_next_goes_on(world: World) -> None:
    broken, good = attach(world, "broken.pdf", b"%PDF-1.7 oops"), attach(world, "l.md", LEAVE)
    async with world.worker():
        assert (await ended(world, good)).status is FileStatus.COMPLETED
        file = await ended(world, broken)
    assert file.status is FileStatus.FAILED
    assert file.last_error and "'broken.pdf' cannot be read" in file.last_error


async def test_two_workers_share_the_files(world: World) -> None:
    ids = [attach(world, f"{n}.md", LEAVE) for n in range(12)]
    async with world.worker(), world.worker():
        files = [await ended(world, file_id) for file_id in ids]
    assert {file.status for file in files} == {FileStatus.COMPLETED}
    assert len(chunks(world)) == 2 * len(ids)


def lease(world: World, file_id: str) -> float:
    with world.db.snapshot() as session:
        row = session.get_one(VectorStoreFileRow, (world.store, file_id))
        assert row.claimed_until is not None
        return row.claimed_until


class Slow(HashingEmbedder):
    """Embeds when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.loop.call_soon_threadsafe(self.begun.set)
        asyncio.run_coroutine_threadsafe(self.gate.wait(), self.loop).result()
        return super().embed(texts)


async def test_a_file_whose_lease_is_renewed_stays_with_its_worker(world: World) -> None:
    slow = Slow()
    file_id = attach(world, "leave.md", LEAVE)
    async with world.worker(slow, lease_s=0.2):
        await slow.begun.wait()
        async with world.worker(lease_s=0.2):
            first = lease(world, file_id)
            while lease(world, file_id) < first + 3 * 0.2:
                await ended(world, attach(world, "canteen.md", CANTEEN))
            assert world.stores.file(ACME, world.store, file_id).status is FileStatus.IN_PROGRESS
        slow.gate.set()
        assert (await ended(world, file_id)).status is FileStatus.COMPLETED


async def test_a_file_taken_out_while_it_is_read_adds_nothing(world: World) -> None:
    slow = Slow()
    file_id = attach(world, "leave.md", LEAVE)
    async with world.worker(slow):
        await slow.begun.wait()
        world.stores.remove_file(ACME, world.store, file_id)
        slow.gate.set()
        await ended(world, attach(world, "canteen.md", CANTEEN))
    assert {piece.title for piece in chunks(world)} == {"Canteen"}


async def test_leaving_gives_the_file_back_and_counts_no_attempt(world: World) -> None:
    file_id = attach(world, "leave.md", LEAVE)
    for _ in range(4):  # more than there are attempts
        slow = Slow()
        worker = world.worker(slow)
        async with worker:
            await slow.begun.wait()
            leaving = asyncio.create_task(worker.__aexit__(None, None, None))
            await asyncio.sleep(0)
            slow.gate.set()
            await leaving
        if world.stores.file(ACME, world.store, file_id).status is FileStatus.COMPLETED:
            break  # it was embedded before it was left
    async with world.worker():
        assert (await ended(world, file_id)).status is FileStatus.COMPLETED


class KillsItself(HashingEmbedder):
    """The process dies in the middle of the work."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().embed(texts)


def work_and_die(url: str, objects: FolderObjects) -> None:
    async def work() -> None:
        ingest = IngestSettings(poll_interval_s=0.01, lease_s=LEASE_S)
        retrieval = RetrievalSettings(embedder="hashing")
        async with IngestWorker(ingest, retrieval, Database(url), objects, KillsItself()):
            await asyncio.Event().wait()

    asyncio.run(work())
    sys.exit(0)


def killed_worker(world: World) -> int | None:
    process = get_context("spawn").Process(target=work_and_die, args=(world.url, world.objects))
    process.start()
    process.join()
    return process.exitcode


async def test_a_killed_workers_file_is_taken_up_when_its_lease_has_run_out(world: World) -> None:
    file_id = attach(world, "leave.md", LEAVE)
    assert await asyncio.to_thread(killed_worker, world) == -signal.SIGKILL
    assert chunks(world) == []
    async with world.worker(lease_s=LEASE_S):
        assert (await ended(world, file_id)).status is FileStatus.COMPLETED
    assert len(chunks(world)) == 2


async def test_a_file_that_kills_every_worker_is_given_up(world: World) -> None:
    file_id = attach(world, "leave.md", LEAVE)
    for _ in range(3):
        assert await asyncio.to_thread(killed_worker, world) == -signal.SIGKILL
    async with world.worker(lease_s=LEASE_S):
        file = await ended(world, file_id)
    assert file.status is FileStatus.FAILED
    assert file.last_error == "'leave.md' ended the worker 3 times."
