"""`kill -9` at any moment of ingest and snapshotting: every accepted file is there exactly once,
and a search finds what exact search over SQL finds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen

from sqlalchemy import func, select

from serving.ingest.worker import IngestWorker
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.local_retriever import LocalRetriever
from serving.settings import IngestSettings, RetrievalSettings
from serving.store import drafts
from serving.store.database import Database
from serving.store.files import Files
from serving.store.models import ChunkContentRow, DraftRow, SnapshotRow
from serving.store.objects import FolderObjects
from serving.store.snapshots import Snapshots
from serving.store.vector_stores import FileStatus, VectorStores
from serving.types import VectorStoreId
from tests.retrieval.truth import assert_true, by_meaning, chunks
from tests.running import eventually
from tests.store.conftest import ACME, db, url

__all__ = ["db", "url"]
KILLS = 20
FILES_PER_RUN = 3
WITHIN_S = 60.0
INGEST = IngestSettings(poll_interval_s=0.01, lease_s=0.3)
RETRIEVAL = RetrievalSettings(
    embedder="hashing", poll_interval_s=0.01, snapshot_every=1, chunk_tokens=16
)
WORDS = [f"word{n}" for n in range(80)]


def open_snapshots(db: Database, folder: Path) -> Snapshots:
    """Its lease runs out at once: a killed holder must not stop the next one of this test."""
    return Snapshots(db, FolderObjects(folder / "snapshots"), "0/1", part_rows=8, lease_s=0.0)


def serve(url: str, folder: Path) -> None:
    """What the cluster runs, in one process: it ingests, follows and snapshots until killed."""
    drafts.WRITE_ROWS = 2  # so that files are written in several transactions
    asyncio.run(_serve(url, folder))


async def _serve(url: str, folder: Path) -> None:
    db, objects = Database(url), FolderObjects(folder / "objects")
    worker = IngestWorker(INGEST, RETRIEVAL, db, objects, HashingEmbedder())
    retriever = LocalRetriever(RETRIEVAL, db, snapshots=open_snapshots(db, folder))
    async with worker, retriever:
        (folder / "started").touch()
        await asyncio.Event().wait()


class Accepted:
    """Files that were accepted, and those of them that were deleted again."""

    def __init__(self, db: Database, folder: Path, random: random.Random) -> None:
        self.files = Files(db, FolderObjects(folder / "objects"))
        self.stores = VectorStores(db)
        self.random = random
        self.store: VectorStoreId = self.stores.create(ACME, "docs").id
        self.ids: list[str] = []

    def add(self) -> None:
        text = "\n\n".join(" ".join(self.random.sample(WORDS, 12)) for _ in range(4))
        file = self.files.create(ACME, f"{len(self.ids)}-{self.random.random()}.txt", text.encode())
        self.stores.attach(ACME, self.store, file.id)
        self.ids.append(file.id)

    def delete_one(self) -> None:
        gone = self.ids.pop(self.random.randrange(len(self.ids)))
        self.files.delete(ACME, gone)

    def statuses(self) -> dict[str, FileStatus]:
        return {id: self.stores.file(ACME, self.store, id).status for id in self.ids}

    def are_ready(self) -> bool:
        """A file that was being read at three kills was given up, rightly; it is sent again."""
        for file_id, status in self.statuses().items():
            if status is FileStatus.FAILED:
                self.stores.attach(ACME, self.store, file_id)
        return set(self.statuses().values()) == {FileStatus.COMPLETED}


class Nursery:
    """A process that has imported everything and forks servers from itself: twenty starts of
    Python would take most of the test's time."""

    def __init__(self, url: str, folder: Path) -> None:
        code = "import sys; from tests.retrieval.test_kill import nurse; nurse(*sys.argv[1:])"
        command = [sys.executable, "-c", code, url, str(folder)]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)

    def start(self) -> int:
        """The process id of a new server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("another\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def nurse(url: str, folder: str) -> None:
    """Forks a server for every line that it reads, once the one before is gone."""
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve(url, Path(folder))
        print(pid, flush=True)
        os.waitpid(pid, 0)


def objects(folder: Path) -> set[Path]:
    return {path for path in (folder / "snapshots").rglob("*") if path.is_file()}


def wait_for_moment(folder: Path, number: int, random: random.Random) -> None:
    """Any moment at all; every other one while a snapshot is being written."""
    eventually((folder / "started").exists, WITHIN_S)
    if number % 2:
        before, began = objects(folder), time.monotonic()
        while objects(folder) == before and time.monotonic() < began + 2.0:
            pass
        time.sleep(random.uniform(0, 0.02))
    else:
        time.sleep(random.uniform(0, 0.8))


async def test_nothing_is_lost_or_doubled_by_twenty_kills(
    url: str, db: Database, tmp_path: Path
) -> None:
    moments = random.Random(7)
    accepted = Accepted(db, tmp_path, moments)
    with closing(Nursery(url, tmp_path)) as nursery:
        await asyncio.to_thread(kill_again_and_again, nursery, tmp_path, accepted, moments)
    with db.snapshot() as session:  # some were finished between kills
        assert session.scalar(select(func.count()).select_from(SnapshotRow))
    await check(db, tmp_path, accepted)


def kill_again_and_again(
    nursery: Nursery, folder: Path, accepted: Accepted, moments: random.Random
) -> None:
    for number in range(KILLS):
        for _ in range(FILES_PER_RUN):
            accepted.add()
        if number % 4 == 3:
            accepted.delete_one()
        pid = nursery.start()
        wait_for_moment(folder, number, moments)
        os.kill(pid, signal.SIGKILL)
        (folder / "started").unlink()


async def check(db: Database, folder: Path, accepted: Accepted) -> None:
    store_objects = FolderObjects(folder / "objects")
    async with (
        IngestWorker(INGEST, RETRIEVAL, db, store_objects, HashingEmbedder()),
        LocalRetriever(RETRIEVAL, db, snapshots=open_snapshots(db, folder)) as retriever,
    ):
        await asyncio.to_thread(eventually, accepted.are_ready, WITHIN_S)
        await compare(db, accepted, retriever)
    drafts.sweep_drafts(db, time.time())
    with db.snapshot() as session:  # what was written and not published is gone
        assert session.scalar(select(func.count()).select_from(DraftRow)) == 0
        contents = session.scalar(select(func.count()).select_from(ChunkContentRow))
    assert contents == len(chunks(db))
    async with LocalRetriever(RETRIEVAL, db, snapshots=open_snapshots(db, folder)) as retriever:
        await compare(db, accepted, retriever)


async def compare(db: Database, accepted: Accepted, retriever: LocalRetriever) -> None:
    rows = chunks(db)
    assert {row.file_id for row in rows} == set(accepted.ids)
    assert max(Counter(row.id for row in rows).values()) == 1
    counts = Counter(row.file_id for row in rows)
    for file_id in accepted.ids:
        file = accepted.stores.file(ACME, accepted.store, file_id)
        assert counts[file_id] == file.chunks
    for _ in range(20):
        query = " ".join(accepted.random.sample(WORDS, 5))
        search = by_meaning(ACME, accepted.store, query, 8, consistent=True)
        assert_true(db, search, await retriever.search(search))
