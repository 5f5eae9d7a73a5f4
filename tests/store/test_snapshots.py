"""Snapshots as objects: what is in them, what they cost, and what a broken one is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from serving.retrieval.shard import Shard
from serving.store import chunks
from serving.store.chunks import CannotFollow, follow
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.files import Files
from serving.store.lease import Lease
from serving.store.models import SequenceRow, SnapshotRow
from serving.store.objects import FolderObjects
from serving.store.purging import EVERY_S, purge
from serving.store.snapshot_part import PartError, decode, encode
from serving.store.snapshots import LEASE_S, Manifest, Snapshots, UnusableSnapshot
from serving.store.vector_stores import VectorStores
from serving.types import VectorStoreId
from tests.store.conftest import ACME, Clock

EMBEDDER = "hashing"
ROWS = 4


def everything(store: VectorStoreId, split: bool, file_id: str) -> bool:
    return True


@pytest.fixture
def store(db: Database) -> VectorStoreId:
    return VectorStores(db).create(ACME, "docs").id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def snapshots(db: Database, folder: Path) -> Snapshots:
    return Snapshots(db, FolderObjects(folder), "0/1", part_rows=ROWS)


def put(db: Database, tmp_path: Path, store: VectorStoreId, name: str, count: int = ROWS) -> str:
    file = Files(db, FolderObjects(tmp_path / "objects")).create(ACME, name, name.encode())
    stores = VectorStores(db)
    stores.attach(ACME, store, file.id)
    chunks = [
        NewChunk(f"{name} {n}", "täglich", ("a", "b"), n, n + 1, np.array([0.6, 0.8], np.float32))
        for n in range(count)
    ]
    stores.complete(ACME, store, file.id, EMBEDDER, chunks)
    return file.id


def truth(db: Database) -> list[str]:
    return [row.text for changes in follow(db, 0) for row in changes.chunks]


def newest(db: Database) -> int:
    with db.snapshot() as session:
        return session.get_one(SequenceRow, "changes").value


def texts(snapshots: Snapshots) -> list[str]:
    manifest = snapshots.open(snapshots.newest_first()[0], EMBEDDER)
    return [row.text for rows in snapshots.chunks(manifest) for row in rows]


def take(db: Database, snapshots: Snapshots) -> Manifest:
    manifest = snapshots.take(newest(db), EMBEDDER, everything)
    assert manifest is not None
    return manifest


def test_a_part_comes_back_as_it_was(db: Database, tmp_path: Path, store: VectorStoreId) -> None:
    put(db, tmp_path, store, "a.md")
    rows = [row for changes in follow(db, 0) for row in changes.chunks]
    again = decode(encode(rows))
    for row, copy in zip(rows, again, strict=True):
        np.testing.assert_array_equal(row.embedding, copy.embedding)
        same = replace(copy, embedding=row.embedding)
        assert same == row
    for broken in (b"", b"nonsense", encode(rows)[:-1], encode(rows)[:40]):
        with pytest.raises(PartError):
            decode(broken)


def test_a_snapshot_holds_what_sql_has(
    db: Database, tmp_path: Path, store: VectorStoreId, snapshots: Snapshots
) -> None:
    put(db, tmp_path, store, "a.md", 10)
    gone = put(db, tmp_path, store, "b.md")
    VectorStores(db).remove_file(ACME, store, gone)
    take(db, snapshots)
    assert texts(snapshots) == truth(db)


def test_the_next_snapshot_writes_only_what_is_new(
    db: Database, tmp_path: Path, store: VectorStoreId, snapshots: Snapshots
) -> None:
    for name in ("a.md", "b.md", "c.md"):
        put(db, tmp_path, store, name)
    before = take(db, snapshots)
    put(db, tmp_path, store, "d.md")
    after = take(db, snapshots)
    shared = {part.sha256 for part in before.parts} & {part.sha256 for part in after.parts}
    assert len(shared) == len(before.parts) >= 3
    assert texts(snapshots) == truth(db)


def test_a_part_with_many_deleted_chunks_is_written_anew(
    db: Database, tmp_path: Path, store: VectorStoreId, snapshots: Snapshots
) -> None:
    files = [put(db, tmp_path, store, f"{n}.md") for n in range(3)]
    take(db, snapshots)
    VectorStores(db).remove_file(ACME, store, files[1])
    after = take(db, snapshots)
    assert sum(part.rows for part in after.parts) == 2 * ROWS
    assert texts(snapshots) == truth(db)


def test_few_deleted_chunks_are_listed_beside_the_part(
    db: Database, tmp_path: Path, store: VectorStoreId, folder: Path
) -> None:
    snapshots = Snapshots(db, FolderObjects(folder), "0/1", part_rows=20)
    put(db, tmp_path, store, "a.md", 19)
    single = put(db, tmp_path, store, "b.md", 1)
    before = take(db, snapshots)
    VectorStores(db).remove_file(ACME, store, single)
    after = take(db, snapshots)
    assert [part.sha256 for part in after.parts] == [part.sha256 for part in before.parts]
    assert len(after.parts[0].dead) == 1
    assert texts(snapshots) == truth(db)


def test_shards_together_hold_everything_once(
    db: Database, tmp_path: Path, store: VectorStoreId
) -> None:
    for n in range(6):
        put(db, tmp_path, VectorStores(db).create(ACME, f"s{n}").id, f"{n}.md")
    found = []
    for number in range(2):
        shard = Shard(number, 2)
        one = Snapshots(db, FolderObjects(tmp_path / f"s{number}"), str(shard), part_rows=ROWS)
        one.take(newest(db), EMBEDDER, shard.holds)
        found += texts(one)
    assert sorted(found) == sorted(truth(db))


def test_two_are_kept_and_the_objects_of_no_other(
    db: Database, tmp_path: Path, store: VectorStoreId, snapshots: Snapshots, folder: Path
) -> None:
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "left by a killed writer").touch()
    for n in range(4):
        put(db, tmp_path, store, f"{n}.md", 1)
        take(db, snapshots)
    kept = snapshots.newest_first()
    assert len(kept) == 2
    named = set[str]()
    for one in kept:
        parts = snapshots.open(one, EMBEDDER).parts
        named |= {one.manifest, *(part.sha256 for part in parts)}
    assert {path.name for path in folder.rglob("*") if path.is_file()} == named


def test_one_process_at_a_time_takes_it_and_none_takes_it_twice(
    db: Database, tmp_path: Path, store: VectorStoreId, snapshots: Snapshots
) -> None:
    put(db, tmp_path, store, "a.md")
    take(db, snapshots)
    assert snapshots.take(newest(db), EMBEDDER, everything) is None


Damage = Callable[[Database, Path, Manifest, str], None]


def objects_of(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / sha256


def truncate_part(_: Database, folder: Path, manifest: Manifest, __: str) -> None:
    path = objects_of(folder, manifest.parts[0].sha256)
    path.write_bytes(path.read_bytes()[:-5])


def flip_a_bit(_: Database, folder: Path, manifest: Manifest, __: str) -> None:
    path = objects_of(folder, manifest.parts[-1].sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_a_part(_: Database, folder: Path, manifest: Manifest, __: str) -> None:
    objects_of(folder, manifest.parts[0].sha256).unlink()


def lose_the_manifest(_: Database, folder: Path, __: Manifest, sha256: str) -> None:
    objects_of(folder, sha256).unlink()


def garble_the_manifest(_: Database, folder: Path, __: Manifest, sha256: str) -> None:
    objects_of(folder, sha256).write_bytes(b"{}")


def other_manifest(db: Database, folder: Path, _: Manifest, sha256: str) -> None:
    other = FolderObjects(folder).put(b'{"format": 0}')
    with db.session() as session:
        row = session.scalars(select(SnapshotRow).where(SnapshotRow.manifest == sha256)).one()
        row.manifest = other


def other_embedder(db: Database, _: Path, __: Manifest, sha256: str) -> None:
    with db.session() as session:
        row = session.scalars(select(SnapshotRow).where(SnapshotRow.manifest == sha256)).one()
        row.embedder = "another"


def restore_sql(db: Database, _: Path, manifest: Manifest, __: str) -> None:
    with db.session() as session:
        session.get_one(SequenceRow, "changes").value = manifest.seq - 1


def forget_deletions(db: Database, _: Path, manifest: Manifest, __: str) -> None:
    with db.session() as session:
        session.add(SequenceRow(name="purged", value=manifest.seq + 1))


DAMAGES: dict[str, list[Damage]] = {
    "broken": [truncate_part, flip_a_bit, garble_the_manifest],
    "missing": [lose_a_part, lose_the_manifest],
    "format": [other_manifest],
    "embedder": [other_embedder],
    "newer": [restore_sql],
    "outdated": [forget_deletions],
}


@pytest.mark.parametrize(
    ("defect", "damage"),
    [(defect, damage) for defect in DAMAGES for damage in DAMAGES[defect]],
)
def test_a_damaged_snapshot_says_what_is_wrong_and_the_next_one_is_whole(
    db: Database,
    tmp_path: Path,
    store: VectorStoreId,
    snapshots: Snapshots,
    folder: Path,
    defect: str,
    damage: Damage,
) -> None:
    for name in ("a.md", "b.md", "c.md"):
        put(db, tmp_path, store, name)
    manifest = take(db, snapshots)
    damage(db, folder, manifest, snapshots.newest_first()[0].manifest)
    with pytest.raises(UnusableSnapshot) as caught:
        texts(snapshots)
    assert caught.value.defect == defect
    if defect != "newer":
        put(db, tmp_path, store, "d.md")
        take(db, snapshots)
        assert texts(snapshots) == truth(db)


# Purging


def test_rows_deleted_long_ago_are_removed_and_those_before_start_over(
    db: Database, tmp_path: Path, store: VectorStoreId
) -> None:
    old, new = (put(db, tmp_path, store, name) for name in ("a.md", "b.md"))
    before = newest(db)
    VectorStores(db).remove_file(ACME, store, old)
    after = newest(db)
    day = 86_400.0
    assert purge(db, 7 * day, now=0.0) == 0
    VectorStores(db).remove_file(ACME, store, new)
    assert purge(db, 7 * day, now=EVERY_S / 2) == 0  # once an hour
    assert purge(db, 7 * day, now=6 * day) == 0
    assert purge(db, 7 * day, now=7 * day) == ROWS
    with pytest.raises(CannotFollow):
        list(follow(db, before))
    [*_, last] = follow(db, after)
    assert len(last.deleted) == ROWS
    assert truth(db) == []


def test_a_writer_that_takes_long_keeps_its_lease_and_a_killed_one_frees_it_in_a_minute(
    db: Database,
    folder: Path,
    tmp_path: Path,
    store: VectorStoreId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(1_000_000.0)
    monkeypatch.setattr(chunks, "PAGE_ROWS", 2)
    writer, other = (
        Snapshots(db, FolderObjects(folder), "0/1", part_rows=ROWS, clock=clock) for _ in range(2)
    )
    put(db, tmp_path, store, "a.md")

    def slow(store: VectorStoreId, split: bool, file_id: str) -> bool:
        clock.now += LEASE_S / 4  # for each of the chunks
        assert other.take(1, EMBEDDER, everything) is None
        return True

    put(db, tmp_path, store, "b.md")
    assert writer.take(newest(db), EMBEDDER, slow)

    def killed(store: VectorStoreId, split: bool, file_id: str) -> bool:
        raise KeyboardInterrupt

    put(db, tmp_path, store, "c.md")
    with monkeypatch.context() as patch:
        patch.setattr(Lease, "end", lambda _: None)  # a process that is killed ends nothing
        with pytest.raises(KeyboardInterrupt):
            writer.take(newest(db), EMBEDDER, killed)
    assert other.take(newest(db), EMBEDDER, everything) is None
    clock.now += LEASE_S + 1
    assert other.take(newest(db), EMBEDDER, everything)
