"""What expires is refused at once and swept later; use keeps a store alive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.drafts import NewChunk
from serving.store.expiry import sweep
from serving.store.files import Files
from serving.store.objects import FolderObjects
from serving.store.vector_stores import StoreStatus, VectorStore, VectorStores
from tests.store.conftest import ACME, Clock
from tests.store.test_vector_stores import EMBEDDER, seen

DAY_S = 86_400
CHUNK = NewChunk("text", "title", ("title",), 0, 4, np.array([0.6, 0.8], "f4"))


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "objects")


@pytest.fixture
def files(db: Database, objects: FolderObjects, clock: Clock) -> Files:
    return Files(db, objects, clock)


@pytest.fixture
def stores(db: Database, clock: Clock) -> VectorStores:
    return VectorStores(db, clock)


@pytest.fixture
def store(stores: VectorStores, files: Files) -> VectorStore:
    """Expires after two days; holds one file."""
    store = stores.create(ACME, "docs", expires_after_days=2)
    file = files.create(ACME, "a.md", b"text")
    stores.attach(ACME, store.id, file.id)
    stores.complete(ACME, store.id, file.id, EMBEDDER, [CHUNK])
    return store


def test_an_expired_file_is_gone_before_it_is_swept(
    db: Database, files: Files, objects: FolderObjects, stores: VectorStores, clock: Clock
) -> None:
    file = files.create(ACME, "a.md", b"brief", expires_after_s=3600)
    lasting = files.create(ACME, "b.md", b"lasting")
    store = stores.create(ACME, "docs")
    stores.attach(ACME, store.id, file.id)
    stores.complete(ACME, store.id, file.id, EMBEDDER, [CHUNK])
    clock.now += 3599
    assert sweep(db, objects, clock) == 0
    assert files.get(ACME, file.id) == file
    clock.now += 1
    for gone in (files.get, files.content, files.delete):
        with pytest.raises(NotFound):
            gone(ACME, file.id)
    assert files.list(ACME).items == (lasting,)
    with pytest.raises(NotFound):
        stores.attach(ACME, store.id, file.id)
    assert objects.exists(file.sha256)
    assert sweep(db, objects, clock) == 1
    assert not objects.exists(file.sha256)
    assert stores.files(ACME, store.id).items == ()
    assert sweep(db, objects, clock) == 0


def test_an_expired_store_is_refused_and_then_emptied_for_good(
    db: Database,
    objects: FolderObjects,
    files: Files,
    stores: VectorStores,
    store: VectorStore,
    clock: Clock,
) -> None:
    clock.now += 2 * DAY_S
    assert stores.get(ACME, store.id).status is StoreStatus.EXPIRED
    other = files.create(ACME, "b.md", b"more")
    for use in (
        lambda: stores.check_usable(ACME, store.id),
        lambda: stores.attach(ACME, store.id, other.id),
        lambda: stores.update(ACME, store.id, expires_after_days=None),
    ):
        with pytest.raises(InvalidRequest) as refused:
            use()
        assert "has expired" in refused.value.message
    _, _, at = seen(db)
    assert sweep(db, objects, clock) == 1
    assert seen(db, at)[:2] == ([], 1)
    swept = stores.get(ACME, store.id)
    assert (swept.status, swept.file_counts, swept.usage_bytes) == (StoreStatus.EXPIRED, {}, 0)
    assert stores.update(ACME, store.id, name="late").name == "late"
    stores.touch([store.id])
    assert stores.get(ACME, store.id).status is StoreStatus.EXPIRED
    assert sweep(db, objects, clock) == 0


def test_use_keeps_a_store_alive_noted_to_the_minute(
    stores: VectorStores, store: VectorStore, clock: Clock
) -> None:
    stores.touch([store.id])
    assert stores.get(ACME, store.id).last_active_at == store.last_active_at
    clock.now += 2 * DAY_S - 1
    stores.touch([store.id])
    clock.now += 2 * DAY_S - 1
    alive = stores.get(ACME, store.id)
    assert alive.status is StoreStatus.COMPLETED
    assert alive.expires_at == alive.last_active_at + 2 * DAY_S
    clock.now += 1
    stores.touch([store.id])
    assert stores.get(ACME, store.id).status is StoreStatus.EXPIRED


def test_a_store_without_a_policy_lasts(
    db: Database, objects: FolderObjects, stores: VectorStores, clock: Clock
) -> None:
    store = stores.create(ACME, "docs")
    clock.now += 10_000 * DAY_S
    stores.touch([store.id])
    assert sweep(db, objects, clock) == 0
    now = stores.get(ACME, store.id)
    assert (now.status, now.expires_at) == (StoreStatus.COMPLETED, None)
    assert now.last_active_at == int(clock.now)
