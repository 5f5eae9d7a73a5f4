"""A replica follows SQL: real rows and real residency, slots of the scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serving.adapters.adapter import Adapter
from serving.adapters.reconcile import Reconciler
from serving.errors import UnknownModel
from serving.generation.scripted_engine import ScriptedEngine
from serving.store.database import Database, SqlFailed
from serving.store.models import AdapterRow, TenantRow
from serving.store.residency import Residencies
from serving.types import AdapterId, TenantId
from tests.store.test_residency import adapter_row

ACME = TenantId("acme")


class Shelf:
    def __init__(self) -> None:
        self.missing: set[str] = set()

    async def get(self, tenant: TenantId, adapter: AdapterId) -> Adapter:
        if adapter in self.missing:
            raise UnknownModel(f"adapter '{adapter}' does not exist")
        return Adapter(AdapterId(f"{tenant}/{adapter}"), Path("/adapters") / adapter)


class World:
    """SQL with one tenant, and replicas that follow it quickly."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.store = Residencies(db)
        self.shelf = Shelf()

    def put(self, name: str, version: int, state: str = "staged", *, pinned: bool = False) -> None:
        with self.db.session() as session:
            session.merge(adapter_row(name, version, state, pinned=pinned, tenant=ACME))

    def change(self, name: str, version: int, **fields: object) -> None:
        with self.db.session() as session:
            row = session.get(AdapterRow, (ACME, name, version))
            for field, value in fields.items():
                setattr(row, field, value)

    @asynccontextmanager
    async def replica(self, engine: ScriptedEngine, name: str = "one") -> AsyncIterator[Reconciler]:
        reconciler = Reconciler(engine.residency, self.store, self.shelf, name, interval_s=0.01)
        async with engine, reconciler:
            yield reconciler

    def held(self) -> dict[str, list[str]]:
        """The adapters by replica, as SQL has them."""
        found: dict[str, list[str]] = {}
        for one in self.store.of(ACME):
            found.setdefault(one.replica, []).append(f"{one.adapter} {one.state}")
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    db = Database(f"sqlite:///{tmp_path / 'engram.sqlite'}")
    db.migrate()
    with db.session() as session:
        session.add(TenantRow(id=ACME, created_at=1))
    return World(db)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_the_pinned_are_loaded_before_a_replica_is_ready(world: World) -> None:
    world.put("a", 1, pinned=True)
    world.put("b", 1, "promoted", pinned=True)
    world.put("c", 1)
    engine = ScriptedEngine(max_loras=4, load_s=0.02)
    async with world.replica(engine):
        assert set(engine.residency.loaded) == {"acme/a@1", "acme/b@1"}
        assert world.held() == {"one": ["acme/a@1 ready", "acme/b@1 ready"]}
    assert world.held() == {}  # a replica that stops says so


async def test_a_pinned_one_that_cannot_be_loaded_keeps_nobody_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.put("broken", 1, pinned=True)
    world.put("gone", 1, pinned=True)
    world.put("sound", 1, pinned=True)
    world.shelf.missing = {"gone@1"}
    engine = ScriptedEngine(unloadable=frozenset({AdapterId("acme/broken@1")}))
    async with world.replica(engine):
        assert engine.residency.loaded == ("acme/sound@1",)
        await asyncio.sleep(0.1)
        wanted = [m for m in caplog.messages if "acme/gone@1 is wanted here" in m]
        assert len(wanted) == 1  # said once, not at every step
        world.shelf.missing = set()
        await until(lambda: "acme/gone@1" in engine.residency.loaded)


async def test_more_pins_than_slots_leave_one_for_the_others(world: World) -> None:
    for number in range(5):
        world.put(f"p{number}", number + 1, pinned=True)
    engine = ScriptedEngine(max_loras=2)
    async with world.replica(engine):
        await asyncio.sleep(0.05)
        other = await world.shelf.get(ACME, AdapterId("x@1"))
        async with engine.residency.lease(other):
            assert set(engine.residency.loaded) == {"acme/p0@1", "acme/x@1"}


async def test_changes_are_followed(world: World) -> None:
    world.put("a", 1, "promoted")
    world.put("a", 2)
    world.put("b", 1)
    engine = ScriptedEngine(max_loras=3)
    async with world.replica(engine):
        assert engine.residency.loaded == ()  # the promoted are loaded on first use
        world.change("b", 1, pinned=True)
        await until(lambda: engine.residency.loaded == ("acme/b@1",))
        world.change("a", 1, state="staged")
        world.change("a", 2, state="promoted")
        await until(lambda: "acme/a@2" in engine.residency.loaded)
        old = await world.shelf.get(ACME, AdapterId("a@1"))
        async with engine.residency.lease(old):
            world.change("a", 1, state="retired")
            await until(lambda: engine.residency.states[AdapterId("acme/a@1")] == "draining")
        await until(lambda: AdapterId("acme/a@1") not in engine.residency.states)
        world.change("b", 1, state="deleted", pinned=False)
        await until(lambda: engine.residency.loaded == ("acme/a@2",))
        await until(lambda: world.held() == {"one": ["acme/a@2 ready"]})


async def test_one_that_is_promoted_again_serves_beside_its_old_streams(world: World) -> None:
    world.put("a", 1)
    engine = ScriptedEngine()
    async with world.replica(engine):
        wanted = await world.shelf.get(ACME, AdapterId("a@1"))
        async with engine.residency.lease(wanted):
            world.change("a", 1, state="retired")
            await until(lambda: engine.residency.states[AdapterId("acme/a@1")] == "draining")
            world.change("a", 1, state="promoted")
            async with asyncio.timeout(10), engine.residency.lease(wanted):
                assert engine.residency.loaded == ("acme/a@1",)


async def test_a_replica_that_takes_over_holds_the_same(world: World) -> None:
    """What a killed one was doing is nowhere but in its memory and in rows that run out."""
    world.put("a", 1, pinned=True)
    slow = ScriptedEngine(load_s=60)
    killed = Reconciler(slow.residency, world.store, world.shelf, "killed", interval_s=0.01)
    await killed.step()
    assert slow.residency.loaded == ()
    await until(lambda: bool(slow.residency.states))
    engine = ScriptedEngine()
    async with world.replica(engine, "next"):
        assert engine.residency.loaded == ("acme/a@1",)
    await killed.__aexit__()
    await slow.residency.close()


async def test_without_sql_adapters_stay_and_with_it_they_follow_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("a", 1, pinned=True)
    engine = ScriptedEngine()
    async with world.replica(engine):
        follow = world.store.desired

        def fail(_: object) -> None:
            raise SqlFailed("away")

        monkeypatch.setattr(world.store, "desired", fail)
        await asyncio.sleep(0.05)
        assert engine.residency.loaded == ("acme/a@1",)
        monkeypatch.setattr(world.store, "desired", follow)
        world.change("a", 1, state="retired", pinned=False)
        await until(lambda: engine.residency.loaded == ())
