"""A retriever that starts from a snapshot finds what one that read all of SQL finds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from serving import telemetry
from serving.retrieval.local_retriever import LocalRetriever
from serving.retrieval.shard import WHOLE, Shard, shard_of
from serving.settings import RetrievalSettings
from serving.store.objects import FolderObjects
from serving.store.snapshots import Snapshots
from serving.store.splitting import split_if_large
from serving.types import Found
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, NEVER_S, World

SETTINGS = RetrievalSettings(embedder="hashing", poll_interval_s=NEVER_S, snapshot_every=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


def replica(world: World, folder: Path, shard: Shard = WHOLE) -> LocalRetriever:
    objects = FolderObjects(folder / str(shard.number))
    snapshots = Snapshots(world.db, objects, str(shard), part_rows=4)
    return LocalRetriever(SETTINGS, world.db, shard=shard, snapshots=snapshots)


def names(found: Found) -> set[str]:
    return {passage.filename for passage in found.passages}


def outcomes(outcome: str) -> float:
    return telemetry.SNAPSHOT.labels(outcome)._value.get()  # type: ignore[no-any-return]


async def test_it_starts_from_the_snapshot_and_the_log(world: World, folder: Path) -> None:
    leave = world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE, {"year": 2023})
    world.pipeline().ingest_file(ACME, world.store, "canteen.md", CANTEEN)
    async with replica(world, folder):
        pass  # leaving takes one
    world.pipeline().ingest_file(ACME, world.store, "room.md", b"# Room\n\nIt has nine chairs.")
    world.stores.remove_file(ACME, world.store, leave.id)
    loaded = outcomes("loaded")
    question = world.search("annual leave, canteen, chairs", limit=10)
    async with replica(world, folder) as started, LocalRetriever(SETTINGS, world.db) as fresh:
        assert outcomes("loaded") == loaded + 1
        found, expected = await started.search(question), await fresh.search(question)
        assert names(found) == {"canteen.md", "room.md"}
        # Words that were deleted count for BM25's statistics until tantivy merges its segments.
        assert {p.id: p.dense_score for p in found.passages} == pytest.approx(
            {p.id: p.dense_score for p in expected.passages}
        )
        assert {p.text for p in found.passages} == {p.text for p in expected.passages}


async def test_one_is_taken_when_enough_has_changed(world: World, folder: Path) -> None:
    async with replica(world, folder) as retriever:
        world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
        taken = outcomes("taken")
        await retriever.refresh()
        await retriever.maintain()
        assert outcomes("taken") == taken + 1
        await retriever.maintain()
        assert outcomes("taken") == taken + 1


async def test_a_broken_one_is_said_and_the_older_one_serves(
    world: World, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, data in (("leave.md", LEAVE), ("canteen.md", CANTEEN)):
        world.pipeline().ingest_file(ACME, world.store, name, data)
        async with replica(world, folder):
            pass
    newest = Snapshots(world.db, FolderObjects(folder / "0"), "0/1").newest_first()[0]
    manifest = folder / "0" / newest.manifest[:2] / newest.manifest
    manifest.write_bytes(manifest.read_bytes()[:-1])
    broken, loaded = outcomes("broken"), outcomes("loaded")
    with caplog.at_level(logging.WARNING):
        async with replica(world, folder) as retriever:
            found = await retriever.search(world.search("canteen annual leave", limit=10))
    assert names(found) == {"leave.md", "canteen.md"}
    assert (outcomes("broken"), outcomes("loaded")) == (broken + 1, loaded + 1)
    assert f"snapshot at {newest.seq} is not used" in caplog.text


async def test_with_every_snapshot_gone_it_reads_sql(world: World, folder: Path) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with replica(world, folder):
        pass
    for path in (folder / "0").rglob("*"):
        if path.is_file():
            path.unlink()
    missing = outcomes("missing")
    async with replica(world, folder) as retriever:
        assert outcomes("missing") == missing + 1
        assert names(await retriever.search(world.search("leave"))) == {"leave.md"}


async def test_after_a_split_shards_load_their_parts_and_the_whole_is_dropped(
    world: World, folder: Path
) -> None:
    for n in range(12):
        data = f"# Room {n}\n\nRoom number{n} has {n} chairs.\n".encode()
        world.pipeline().ingest_file(ACME, world.store, f"{n}.md", data)
    everything = {f"{n}.md" for n in range(12)}
    question = world.search("chairs in a room", limit=50)
    number = shard_of(world.store, 2)
    async with (
        replica(world, folder, Shard(number, 2)) as own,
        replica(world, folder, Shard(1 - number, 2)) as other,
    ):
        for one in (own, other):
            await one.maintain()
        assert names(await own.search(question)) == everything
        assert split_if_large(world.db, world.store, above=1)
        await own.refresh()
        await own.maintain()
        assert names(await own.search(question)) == everything  # the other has no part yet
        await other.refresh()
        await other.maintain()
        await own.maintain()
        parts = [names(await one.search(question)) for one in (own, other)]
        assert parts[0] | parts[1] == everything and not parts[0] & parts[1]
    restarted = [replica(world, folder, Shard(n, 2)) for n in range(2)]
    async with restarted[0] as first, restarted[1] as second:
        parts = [names(await one.search(question)) for one in (first, second)]
        assert parts[0] | parts[1] == everything and not parts[0] & parts[1]
