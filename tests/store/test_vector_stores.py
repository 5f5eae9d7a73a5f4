"""Vector stores: scope, states of their files, and what a follower of the sequence sees."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from serving.errors import Conflict, NotFound
from serving.store.chunks import follow
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.files import Files
from serving.store.objects import FolderObjects
from serving.store.vector_stores import FileStatus, StoreStatus, VectorStore, VectorStores
from tests.store.conftest import ACME, OTHER

EMBEDDER = "hashing-2"


@pytest.fixture
def stores(db: Database) -> VectorStores:
    return VectorStores(db)


@pytest.fixture
def files(db: Database, tmp_path: Path) -> Files:
    return Files(db, FolderObjects(tmp_path / "objects"))


@pytest.fixture
def store(stores: VectorStores) -> VectorStore:
    return stores.create(ACME, "docs", {"team": "a"})


def new_chunk(text: str) -> NewChunk:
    return NewChunk(text, "title", ("title", "section"), 0, len(text), np.array([0.6, 0.8], "f4"))


def seen(db: Database, after: int = 0) -> tuple[list[str], int, int]:
    """Texts that came, how many went, and the newest number."""
    texts, gone = list[str](), 0
    for changes in follow(db, after):
        texts += [piece.text for piece in changes.chunks]
        gone += len(changes.deleted)
        after = changes.seq
    return texts, gone, after


def test_a_store_is_found_by_id_and_by_name(stores: VectorStores, store: VectorStore) -> None:
    assert stores.get(ACME, store.id) == stores.find(ACME, "docs") == store
    assert stores.find(ACME, "nothing") is None
    assert store.metadata == {"team": "a"}


def test_another_tenants_store_looks_like_an_unknown_one(
    stores: VectorStores, store: VectorStore
) -> None:
    with pytest.raises(NotFound) as theirs:
        stores.get(OTHER, store.id)
    stores.delete(ACME, store.id)
    with pytest.raises(NotFound) as unknown:
        stores.get(ACME, store.id)
    assert str(theirs.value) == str(unknown.value)
    assert stores.find(OTHER, "docs") is None


def test_another_tenants_file_cannot_be_attached(
    stores: VectorStores, store: VectorStore, files: Files
) -> None:
    theirs = files.create(OTHER, "a.md", b"text")
    with pytest.raises(NotFound):
        stores.attach(ACME, store.id, theirs.id)


def test_a_file_goes_from_in_progress_to_completed(
    db: Database, stores: VectorStores, store: VectorStore, files: Files
) -> None:
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id, {"year": 2024})
    assert stores.get(ACME, store.id).status is StoreStatus.IN_PROGRESS
    stores.complete(ACME, store.id, file.id, EMBEDDER, [new_chunk("one"), new_chunk("two")])
    completed = stores.file(ACME, store.id, file.id)
    assert (completed.status, completed.chunks) == (FileStatus.COMPLETED, 2)
    assert completed.attributes == {"year": 2024}
    now = stores.get(ACME, store.id)
    assert (now.file_counts, now.usage_bytes) == ({FileStatus.COMPLETED: 1}, 4)
    assert seen(db)[0] == ["one", "two"]


def test_a_failed_file_says_why_and_may_be_tried_again(
    stores: VectorStores, store: VectorStore, files: Files
) -> None:
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id)
    assert stores.fail(ACME, store.id, file.id, "broken").last_error == "broken"
    again = stores.attach(ACME, store.id, file.id)
    assert (again.status, again.last_error) == (FileStatus.IN_PROGRESS, None)


def test_completing_again_adds_nothing(
    db: Database, stores: VectorStores, store: VectorStore, files: Files
) -> None:
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id)
    for _ in range(2):
        stores.complete(ACME, store.id, file.id, EMBEDDER, [new_chunk("one")])
    assert seen(db)[0] == ["one"]


def test_a_newer_file_of_the_same_name_replaces_the_older_in_one_step(
    db: Database, stores: VectorStores, store: VectorStore, files: Files
) -> None:
    old, new = (files.create(ACME, "a.md", data) for data in (b"old", b"new"))
    stores.attach(ACME, store.id, old.id)
    stores.complete(ACME, store.id, old.id, EMBEDDER, [new_chunk("old")])
    _, _, at = seen(db)
    stores.attach(ACME, store.id, new.id, replaces=True)
    assert seen(db)[0] == ["old"]
    stores.complete(ACME, store.id, new.id, EMBEDDER, [new_chunk("new")])
    assert seen(db)[0] == ["new"]
    assert seen(db, at)[:2] == (["new"], 1)
    assert [file.id for file in stores.files(ACME, store.id).items] == [new.id]


@pytest.mark.parametrize("how", ["detach", "delete the file", "delete the store"])
def test_a_follower_sees_chunks_go(
    db: Database, stores: VectorStores, store: VectorStore, files: Files, how: str
) -> None:
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id)
    stores.complete(ACME, store.id, file.id, EMBEDDER, [new_chunk("one"), new_chunk("two")])
    _, _, at = seen(db)
    if how == "detach":
        stores.remove_file(ACME, store.id, file.id)
    elif how == "delete the file":
        files.delete(ACME, file.id)
    else:
        stores.delete(ACME, store.id)
    gone = 0 if how == "delete the store" else 2  # its own state says it for all its chunks
    assert seen(db, at)[:2] == ([], gone)
    assert [state.deleted for changes in follow(db, at) for state in changes.stores] == (
        [True] if how == "delete the store" else []
    )
    assert seen(db)[0] == []


def test_a_file_attached_to_a_deleted_store_cannot_complete(
    stores: VectorStores, store: VectorStore, files: Files
) -> None:
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id)
    stores.delete(ACME, store.id)
    with pytest.raises(NotFound):
        stores.complete(ACME, store.id, file.id, EMBEDDER, [new_chunk("one")])


def test_one_store_has_one_embedder(stores: VectorStores, store: VectorStore, files: Files) -> None:
    first, second = (files.create(ACME, name, b"text") for name in ("a.md", "b.md"))
    for file in (first, second):
        stores.attach(ACME, store.id, file.id)
    stores.complete(ACME, store.id, first.id, EMBEDDER, [new_chunk("one")])
    with pytest.raises(Conflict):
        stores.complete(ACME, store.id, second.id, "another", [new_chunk("two")])


def test_no_number_is_missed_however_writers_overlap(
    db: Database, stores: VectorStores, store: VectorStore, files: Files
) -> None:
    names = [f"{n}.md" for n in range(12)]
    created = [files.create(ACME, name, name.encode()) for name in names]

    def write(part: int) -> None:
        for file in created[part::3]:
            stores.attach(ACME, store.id, file.id)
            stores.complete(ACME, store.id, file.id, EMBEDDER, [new_chunk(file.filename)])

    writers = [threading.Thread(target=write, args=(part,)) for part in range(3)]
    for writer in writers:
        writer.start()
    texts, at = list[str](), 0
    while any(writer.is_alive() for writer in writers):
        came, _, at = seen(db, at)
        texts += came
    texts += seen(db, at)[0]
    assert sorted(texts) == sorted(names)


def test_a_store_is_renamed(stores: VectorStores, store: VectorStore) -> None:
    changed = stores.update(ACME, store.id, name="new", metadata={})
    assert (changed.name, changed.metadata) == ("new", {})
    assert stores.list(ACME).items == (changed,)
