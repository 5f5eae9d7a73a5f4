from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deploy.demo import seed
from serving.app import open_store
from serving.settings import load


def test_seeding_again_changes_nothing(tmp_path: Path) -> None:
    settings = load({"ENGRAM_DATA": str(tmp_path)})
    store = open_store(settings)
    key = seed.seed(settings, store)
    [helpdesk] = store.assistants.list(seed.TENANT)
    mine = replace(helpdesk, instructions="Be brief.")
    store.assistants.put(mine)
    assert seed.seed(settings, store) == key
    assert store.assistants.list(seed.TENANT) == (mine,)
    assert len(store.vector_stores.list(seed.TENANT).items) == 1
    assert len(store.keys.list(seed.TENANT)) == 1


def test_the_key_can_be_read_by_its_owner_only_and_works(tmp_path: Path) -> None:
    settings = load({"ENGRAM_DATA": str(tmp_path)})
    store = open_store(settings)
    key = seed.seed(settings, store)
    assert (tmp_path / "demo-key").stat().st_mode & 0o777 == 0o600
    assert store.keys.authenticate(key).scopes == frozenset(seed.SCOPES)


def test_the_demo_adapter_is_what_its_name_means(tmp_path: Path) -> None:
    settings = load({"ENGRAM_DATA": str(tmp_path)})
    store = open_store(settings)
    seed.seed(settings, store)
    helpdesk = store.adapters.find(seed.TENANT, "helpdesk")
    assert helpdesk.id == seed.ADAPTER and helpdesk.state == "promoted"
