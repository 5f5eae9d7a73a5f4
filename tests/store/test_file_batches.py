"""Batches: all or nothing, counted by status, cancelled while in progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import NotFound
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.file_batches import FileBatches
from serving.store.files import Files
from serving.store.ingest_queue import IngestQueue
from serving.store.objects import FolderObjects
from serving.store.store_files import FileStatus, NewStoreFile
from serving.store.vector_stores import VectorStores
from serving.types import VectorStoreId
from tests.store.conftest import ACME, OTHER

CHUNK = NewChunk("text", "title", ("title",), 0, 4, np.array([0.6, 0.8], "f4"))
STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}


@pytest.fixture
def stores(db: Database) -> VectorStores:
    return VectorStores(db)


@pytest.fixture
def batches(db: Database) -> FileBatches:
    return FileBatches(db)


@pytest.fixture
def store(stores: VectorStores) -> VectorStoreId:
    return stores.create(ACME, "docs").id


@pytest.fixture
def ids(db: Database, tmp_path: Path) -> list[str]:
    files = Files(db, FolderObjects(tmp_path / "objects"))
    return [files.create(ACME, f"{n}.md", b"text").id for n in range(3)]


def new(*file_ids: str) -> list[NewStoreFile]:
    return [NewStoreFile(file_id) for file_id in file_ids]


def complete(stores: VectorStores, store: VectorStoreId, file_id: str) -> None:
    stores.complete(ACME, store, file_id, "hashing-2", [CHUNK])


def test_a_batch_counts_its_files_by_status(
    stores: VectorStores, batches: FileBatches, store: VectorStoreId, ids: list[str]
) -> None:
    batch = batches.create(ACME, store, new(*ids, ids[0]))
    assert batch.file_counts == {FileStatus.IN_PROGRESS: 3}
    complete(stores, store, ids[0])
    stores.fail(ACME, store, ids[1], "broken", "invalid_file")
    assert batches.get(ACME, store, batch.id).status is FileStatus.IN_PROGRESS
    complete(stores, store, ids[2])
    ended = batches.get(ACME, store, batch.id)
    assert ended.status is FileStatus.COMPLETED
    assert ended.file_counts == {FileStatus.COMPLETED: 2, FileStatus.FAILED: 1}
    [failed] = batches.files(ACME, store, batch.id, status=FileStatus.FAILED).items
    assert (failed.id, failed.last_error, failed.error_code) == (ids[1], "broken", "invalid_file")


def test_cancelling_stops_what_is_in_progress_also_at_a_worker(
    db: Database,
    stores: VectorStores,
    batches: FileBatches,
    store: VectorStoreId,
    ids: list[str],
) -> None:
    batch = batches.create(ACME, store, new(*ids))
    complete(stores, store, ids[0])
    queue = IngestQueue(db, lease_s=60)
    job = queue.claim()
    assert job is not None
    cancelled = batches.cancel(ACME, store, batch.id)
    assert cancelled.status is FileStatus.CANCELLED
    assert cancelled.file_counts == {FileStatus.COMPLETED: 1, FileStatus.CANCELLED: 2}
    assert not queue.complete(job, "hashing-2", [CHUNK])
    assert queue.claim() is None
    assert batches.get(ACME, store, batch.id) == cancelled


def test_a_cancelled_file_may_be_attached_again(
    db: Database,
    stores: VectorStores,
    batches: FileBatches,
    store: VectorStoreId,
    ids: list[str],
) -> None:
    first = batches.create(ACME, store, new(ids[0]))
    queue = IngestQueue(db, lease_s=60)
    stale = queue.claim()
    assert stale is not None
    batches.cancel(ACME, store, first.id)
    second = batches.create(ACME, store, new(ids[0]))
    assert second.status is FileStatus.IN_PROGRESS
    fresh = queue.claim()
    assert fresh is not None
    assert not queue.complete(stale, "hashing-2", [CHUNK])  # its attempt no longer counts
    assert queue.complete(fresh, "hashing-2", [CHUNK])
    assert batches.get(ACME, store, second.id).status is FileStatus.COMPLETED


def test_a_file_that_is_to_be_cut_anew_is_found_by_its_old_chunks_until_then(
    stores: VectorStores, batches: FileBatches, store: VectorStoreId, ids: list[str]
) -> None:
    batches.create(ACME, store, new(ids[0]))
    complete(stores, store, ids[0])
    batches.create(ACME, store, [NewStoreFile(ids[0], {"year": 2026})])
    kept = stores.file(ACME, store, ids[0])
    assert (kept.status, kept.attributes) == (FileStatus.COMPLETED, {"year": 2026})
    batches.create(ACME, store, [NewStoreFile(ids[0], chunking=STATIC)])
    anew, texts = stores.text(ACME, store, ids[0])
    assert (anew.status, anew.chunking, anew.attributes) == (
        FileStatus.IN_PROGRESS,
        STATIC,
        {"year": 2026},
    )
    assert texts == ("text",)


def test_an_unknown_file_refuses_the_batch(
    stores: VectorStores, batches: FileBatches, store: VectorStoreId, ids: list[str]
) -> None:
    with pytest.raises(NotFound):
        batches.create(ACME, store, new(ids[0], "file-none"))
    assert stores.files(ACME, store).items == ()


def test_another_tenants_batch_looks_like_an_unknown_one(
    stores: VectorStores, batches: FileBatches, store: VectorStoreId, ids: list[str]
) -> None:
    batch = batches.create(ACME, store, new(*ids))
    theirs = stores.create(OTHER, "docs").id
    for attempt in (batches.get, batches.cancel, batches.files):
        with pytest.raises(NotFound) as foreign:
            attempt(OTHER, theirs, batch.id)
        with pytest.raises(NotFound) as unknown:
            attempt(OTHER, theirs, "vsfb_none")
        assert str(foreign.value) == str(unknown.value).replace("vsfb_none", batch.id)


def test_deleting_the_store_deletes_its_batches(
    stores: VectorStores, batches: FileBatches, store: VectorStoreId, ids: list[str]
) -> None:
    batch = batches.create(ACME, store, new(*ids))
    stores.delete(ACME, store)
    with pytest.raises(NotFound):
        batches.get(ACME, store, batch.id)
