"""Assistants: kept whole, by tenant, and not older than the cache says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from serving.errors import NotFound
from serving.store.assistants import CACHE_S, Assistants
from serving.store.database import Database
from serving.types import AdapterId, Assistant, Mode, Policy, TenantId, VectorStoreId
from tests.store.conftest import ACME, OTHER, Clock

HELPDESK = Assistant(
    name="helpdesk",
    tenant=ACME,
    instructions="Be kind.",
    adapter=AdapterId("helpdesk@3"),
    vector_stores=(VectorStoreId("vs_1"), VectorStoreId("vs_2")),
    policy=Policy(min_retrieval=0.5),
    fixed_mode=Mode.HYBRID,
    sampling={"temperature": 0, "stop": ["\n"]},
)


def test_what_was_put_comes_back_equal(db: Database) -> None:
    Assistants(db).put(HELPDESK)
    assert Assistants(db).get(ACME, "helpdesk") == HELPDESK


def test_another_tenant_does_not_see_it(db: Database) -> None:
    assistants = Assistants(db)
    assistants.put(HELPDESK)
    assert assistants.get(OTHER, "helpdesk") is None
    assert assistants.list(OTHER) == ()


def test_a_change_shows_at_once_here_and_within_the_cache_time_elsewhere(
    db: Database, clock: Clock
) -> None:
    here, elsewhere = Assistants(db), Assistants(db, monotonic=clock)
    here.put(HELPDESK)
    assert here.get(ACME, "helpdesk") == elsewhere.get(ACME, "helpdesk") == HELPDESK
    changed = replace(HELPDESK, instructions="Be brief.")
    here.put(changed)
    assert here.get(ACME, "helpdesk") == changed
    clock.now += CACHE_S
    assert elsewhere.get(ACME, "helpdesk") == changed


async def test_the_event_loop_finds_the_same(db: Database) -> None:
    assistants = Assistants(db)
    assert await assistants.find(ACME, "helpdesk") is None
    assistants.put(HELPDESK)
    assert await assistants.find(ACME, "helpdesk") == HELPDESK


def test_a_deleted_one_is_gone(db: Database) -> None:
    assistants = Assistants(db)
    assistants.put(HELPDESK)
    assistants.delete(ACME, "helpdesk")
    assert assistants.get(ACME, "helpdesk") is None
    with pytest.raises(NotFound):
        assistants.delete(ACME, "helpdesk")


def test_they_are_listed_by_name(db: Database) -> None:
    assistants = Assistants(db)
    for name in ("b", "a"):
        assistants.put(replace(HELPDESK, name=name))
    assert [assistant.name for assistant in assistants.list(ACME)] == ["a", "b"]


def test_a_tenant_must_exist(db: Database) -> None:
    with pytest.raises(NotFound):
        Assistants(db).put(replace(HELPDESK, tenant=TenantId("nobody")))


def test_of_two_that_are_put_at_once_one_follows_the_other(db: Database) -> None:
    seen: list[str | None] = []
    both = Barrier(2)

    def follow(old: Assistant | None, new: Assistant) -> Assistant:
        seen.append(old.instructions if old else None)
        return new

    def put(instructions: str) -> None:
        both.wait(20)
        Assistants(db).put(replace(HELPDESK, instructions=instructions), follow)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, ("one", "two")))
    assert seen[0] is None
    assert seen[1] in ("one", "two")


def test_what_was_read_before_a_change_is_not_kept_after_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assistants, load = Assistants(db), Assistants._load
    assistants.put(HELPDESK)
    changed = replace(HELPDESK, instructions="Be brief.")

    def changed_meanwhile(self: Assistants, tenant: TenantId, name: str) -> Assistant | None:
        found = load(self, tenant, name)
        self.put(changed)
        return found

    monkeypatch.setattr(Assistants, "_load", changed_meanwhile)
    assert assistants.get(ACME, "helpdesk") == HELPDESK
    monkeypatch.undo()
    assert assistants.get(ACME, "helpdesk") == changed
