"""After anything that another process did, a search is exact search over what SQL has."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from serving.ingest.pipeline import Pipeline
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.local_retriever import LocalRetriever
from serving.settings import RetrievalSettings
from serving.store.database import Database
from serving.store.files import Files
from serving.store.objects import FolderObjects
from serving.store.snapshots import Snapshots
from serving.store.vector_stores import VectorStores
from tests.retrieval.conftest import NEVER_S
from tests.retrieval.truth import assert_true, by_meaning
from tests.store.conftest import ACME, db, url

__all__ = ["db", "url"]
STEPS = 32
WORDS = [f"word{n}" for n in range(60)]
SETTINGS = RetrievalSettings(embedder="hashing", poll_interval_s=NEVER_S, snapshot_every=10)


class Other:
    """Another process: its own connections, no idea of the retriever."""

    def __init__(self, url: str, folder: Path, seed: int) -> None:
        self.db = Database(url)
        self.random = random.Random(seed)
        self.stores = VectorStores(self.db)
        self.files = Files(self.db, FolderObjects(folder))
        self.pipeline = Pipeline(self.files, self.stores, HashingEmbedder(), chunk_tokens=16)
        self.store = self.stores.create(ACME, "docs").id
        self.there: dict[str, int] = {}  # attached files and their year

    def text(self) -> bytes:
        parts = [" ".join(self.random.sample(WORDS, 12)) for _ in range(self.random.randint(1, 4))]
        return "\n\n".join(parts).encode()

    def step(self) -> None:
        do = self.random.choice((self.add, self.add, self.replace, self.remove, self.change))
        do()

    def add(self) -> None:
        self._ingest(f"{self.random.random()}.txt")

    def replace(self) -> None:
        name = self.random.choice(("a.txt", "b.txt"))
        for file in self.stores.named(ACME, self.store, name):
            self.there.pop(file.id, None)
        self._ingest(name)

    def _ingest(self, name: str) -> None:
        year = self.random.randint(2020, 2024)
        args = ACME, self.store, name, self.text(), {"year": year}
        self.there[self.pipeline.ingest_file(*args).id] = year

    def remove(self) -> None:
        if self.there:
            gone = self.random.choice(sorted(self.there))
            del self.there[gone]
            if self.random.random() < 0.5:
                self.files.delete(ACME, gone)
            else:
                self.stores.remove_file(ACME, self.store, gone)

    def change(self) -> None:
        if self.there:
            file_id = self.random.choice(sorted(self.there))
            self.there[file_id] = self.random.randint(2020, 2024)
            attributes = {"year": self.there[file_id]}
            self.stores.set_attributes(ACME, self.store, file_id, attributes)


@pytest.mark.parametrize("seed", [1, 2])
async def test_search_is_exact_search_over_sql(
    url: str, db: Database, tmp_path: Path, seed: int
) -> None:
    other = Other(url, tmp_path / "objects", seed)
    snapshots = Snapshots(db, FolderObjects(tmp_path / "snapshots"), "0/1", part_rows=16)
    retriever = LocalRetriever(SETTINGS, db, snapshots=snapshots)
    await retriever.__aenter__()
    for number in range(STEPS):
        await asyncio.to_thread(other.step)
        await check(retriever, db, other)
        if number % 8 == 7:
            await retriever.maintain()
        if number % 16 == 15:  # another replica takes over, from the snapshot and the log
            await retriever.__aexit__(None, None, None)
            retriever = LocalRetriever(SETTINGS, db, snapshots=snapshots)
            await retriever.__aenter__()
    await retriever.__aexit__(None, None, None)
    other.db.close()


async def check(retriever: LocalRetriever, db: Database, other: Other) -> None:
    query = " ".join(other.random.sample(WORDS, 4))
    search = by_meaning(ACME, other.store, query, 8, consistent=True)
    assert_true(db, search, await retriever.search(search))
    recent = {"type": "gte", "key": "year", "value": 2022}
    filtered = by_meaning(ACME, other.store, query, 8, consistent=True, filters=recent)
    keep = {file_id for file_id, year in other.there.items() if year >= 2022}
    assert_true(db, filtered, await retriever.search(filtered), keep)
