"""When a store is spread over all shards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.store.chunks import follow
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.files import Files
from serving.store.models import VectorStoreRow
from serving.store.objects import FolderObjects
from serving.store.sequence import newest
from serving.store.splitting import split_if_large
from serving.store.vector_stores import VectorStores
from serving.types import VectorStoreId
from tests.store.conftest import ACME


@pytest.fixture
def store(db: Database, tmp_path_factory: pytest.TempPathFactory) -> VectorStoreId:
    """Ten chunks in two files."""
    stores = VectorStores(db)
    store = stores.create(ACME, "docs").id
    files = Files(db, FolderObjects(tmp_path_factory.mktemp("objects")))
    for name in ("a.md", "b.md"):
        file = files.create(ACME, name, name.encode())
        stores.attach(ACME, store, file.id)
        chunk = NewChunk("text", "", (), 0, 4, np.zeros(4, np.float32))
        stores.complete(ACME, store, file.id, "hashing", [chunk] * 5)
    return store


def is_split(db: Database, store: VectorStoreId) -> bool:
    with db.snapshot() as session:
        return session.get_one(VectorStoreRow, store).split


@pytest.mark.parametrize("above", [0, 10])
def test_a_store_that_is_not_larger_stays_whole(
    db: Database, store: VectorStoreId, above: int
) -> None:
    assert not split_if_large(db, store, above)
    assert not is_split(db, store)


def test_a_larger_one_is_split_once_and_followers_see_it(
    db: Database, store: VectorStoreId
) -> None:
    with db.snapshot() as session:
        before = newest(session)
    assert split_if_large(db, store, 9)
    assert is_split(db, store)
    assert [state.id for changes in follow(db, before) for state in changes.stores] == [store]
    assert not split_if_large(db, store, 9)


def test_workers_that_finish_together_split_it_once(db: Database, store: VectorStoreId) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(lambda _: split_if_large(db, store, 9), range(4))) == 1


def test_a_deleted_or_unknown_store_is_not_split(db: Database, store: VectorStoreId) -> None:
    VectorStores(db).delete(ACME, store)
    assert not split_if_large(db, store, 1)
    assert not split_if_large(db, VectorStoreId("vs_nobody"), 1)
