"""The registry on both databases: publishing, finding, the life of a version, and folders."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from serving.adapters import lifecycle
from serving.adapters.acceptance import Acceptance
from serving.adapters.base_model import BaseModel
from serving.adapters.cache import DiskCache
from serving.adapters.folders import REFUSED_S, Folders
from serving.adapters.registry import CACHE_S, Registry
from serving.adapters.tensors import WEIGHTS
from serving.errors import AdapterNotReady, Conflict, InvalidRequest, NotFound, UnknownModel
from serving.settings import ROOT
from serving.store.adapters import AdapterVersions
from serving.store.assistants import Assistants
from serving.store.database import Database
from serving.store.keys import Keys
from serving.store.objects import FolderObjects
from serving.store.pages import Window
from serving.types import AdapterId, AdapterVersion, Assistant, TenantId, VersionState
from tests.store.conftest import ACME, OTHER, Clock, clock, db, url
from tests.tiny_model import write_adapter

__all__ = ["clock", "db", "url"]  # fixtures

LEGAL = AdapterId("legal@1")


def open_registry(
    db: Database, data: Path, clock: Callable[[], float], max_rank: int = 16
) -> Registry:
    objects = FolderObjects(data / "objects")
    return Registry(
        AdapterVersions(db, lifecycle.advance, clock),
        objects,
        DiskCache(data / "cache", 2**30, objects, clock=clock),
        Folders(data / "adapters"),
        Acceptance(BaseModel("tiny", None), max_rank, 2**24, data / "cache", clock),
        monotonic=clock,
    )


@pytest.fixture
def registry(db: Database, tmp_path: Path, clock: Clock) -> Registry:
    return open_registry(db, tmp_path, clock)


class Makers:
    """Adapters to publish, each with weights of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def __call__(self, seed: int | None = None, **config: Any) -> Path:
        self._made += 1
        return write_adapter(
            self._folder / str(self._made), seed=self._made if seed is None else seed, **config
        )


@pytest.fixture
def make(tmp_path: Path) -> Makers:
    return Makers(tmp_path / "made")


def objects_of(registry: Registry) -> set[str]:
    return set(registry.objects.stored())


# Publishing


def test_what_is_published_is_kept_and_described(registry: Registry, make: Makers) -> None:
    folder = make()
    (folder / "card.json").write_text('{"base_model": "tiny", "metrics": {"loss": 0.5}}')
    (folder / "README.md").write_text("not an adapter's file")
    made = registry.publish(ACME, "legal", folder, model="ft:tiny:acme:legal:1", job="ftjob-1")
    assert (made.id, made.state, made.rank, made.alpha) == ("legal@1", "staged", 8, 16.0)
    assert made.target_modules == ("q_proj", "v_proj")
    assert (made.base_model, made.job, made.metrics) == ("tiny", "ftjob-1", {"loss": 0.5})
    assert set(made.manifest) == {"adapter_config.json", WEIGHTS, "card.json"}
    assert objects_of(registry) == {file.sha256 for file in made.manifest.values()}
    for name in ("legal@1", "legal", "ft:tiny:acme:legal:1"):
        assert registry.find(ACME, name) == made


def test_versions_count_up_and_no_number_is_given_twice(registry: Registry, make: Makers) -> None:
    assert [registry.publish(ACME, "legal", make()).version for _ in range(3)] == [1, 2, 3]
    registry.retire(ACME, "legal@3")
    registry.delete(ACME, "legal@3")
    assert registry.publish(ACME, "legal", make()).version == 4


def test_the_same_weights_and_configuration_are_the_version_that_is_there(
    registry: Registry, make: Makers
) -> None:
    first = registry.publish(ACME, "legal", make(seed=1))
    before = objects_of(registry)
    again = make(seed=1, target_modules=["v_proj", "q_proj"])  # PEFT writes them in any order
    assert registry.publish(ACME, "legal", again) == first
    assert objects_of(registry) == before
    assert registry.publish(ACME, "legal", make(seed=1, lora_alpha=4)).version == 2
    assert registry.publish(ACME, "other", make(seed=1)).version == 1
    assert registry.publish(ACME, "legal", make(seed=1), model="ft:tiny:x").version == 3


def test_concurrent_publishes_of_one_name_get_different_numbers(
    registry: Registry, make: Makers
) -> None:
    folders = [make() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda folder: registry.publish(ACME, "legal", folder), folders))
    assert sorted(version.version for version in made) == [1, 2, 3, 4, 5, 6]
    for version, folder in zip(made, folders, strict=True):
        path = asyncio.run(registry.get(ACME, version.id)).path
        assert (path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_concurrent_publishes_of_one_adapter_are_one_version(
    registry: Registry, make: Makers
) -> None:
    folder = make()
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: registry.publish(ACME, "legal", folder).id, range(4)))
    assert made == {"legal@1"}


def test_a_refused_adapter_leaves_nothing(registry: Registry, make: Makers, tmp_path: Path) -> None:
    broken = make(use_dora=True)
    with pytest.raises(InvalidRequest, match="DoRA"):
        registry.publish(ACME, "legal", broken)
    with pytest.raises(NotFound, match="No such tenant"):
        registry.publish(TenantId("nobody"), "legal", make())
    (broken / WEIGHTS).unlink()
    with pytest.raises(InvalidRequest, match="is missing: send the whole adapter"):
        registry.publish(ACME, "legal", broken)
    assert registry.list(ACME) == ()
    assert objects_of(registry) == set()
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_crash_left_is_swept_and_what_is_needed_stays(
    registry: Registry, make: Makers
) -> None:
    made = registry.publish(ACME, "legal", make())
    registry.objects.put(b"written, but its row never was")
    assert registry.sweep() == 1
    assert objects_of(registry) == {file.sha256 for file in made.manifest.values()}


def test_a_publisher_killed_before_its_row_leaves_nothing_for_long(
    db: Database, url: str, registry: Registry, make: Makers, tmp_path: Path, clock: Clock
) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from serving.store.database import Database\n"
        "from tests.adapters.test_registry import ACME, open_registry\n"
        "registry = open_registry(Database(sys.argv[1]), Path(sys.argv[2]), time.time)\n"
        "registry.versions.add = lambda *given, **more: os._exit(9)\n"
        "registry.publish(ACME, 'legal', Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", code, url, str(tmp_path), str(make())]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 9
    assert registry.list(ACME) == ()
    assert registry.sweep() == 2  # weights and configuration
    assert objects_of(registry) == set()
    [incoming] = (tmp_path / "cache").glob(".incoming-*")
    registry.cache.sweep()
    clock.now = incoming.stat().st_mtime + 3_601
    open_registry(db, tmp_path, clock).sweep()
    assert not incoming.exists()


def test_a_publish_survives_a_sweep_between_its_objects_and_its_row(
    registry: Registry, make: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = registry.versions.add

    def late(*given: object, **more: object) -> AdapterVersion:
        registry.sweep()
        return add(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(registry.versions, "add", late)
    made = registry.publish(ACME, "legal", make())
    assert objects_of(registry) == {file.sha256 for file in made.manifest.values()}


@pytest.mark.parametrize("name", ["", "a/b", "a@1", "../a", "a b", "ft:x", "a" * 65, "tiny"])
def test_a_name_that_no_adapter_may_have_is_refused(
    registry: Registry, make: Makers, name: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        registry.publish(ACME, name, make())
    assert refused.value.param == "name"


# Finding


def test_a_bare_name_is_the_promoted_version_else_the_newest(
    registry: Registry, make: Makers
) -> None:
    for _ in range(3):
        registry.publish(ACME, "legal", make())
    assert registry.find(ACME, "legal").id == "legal@3"
    registry.promote(ACME, "legal@2")
    assert registry.find(ACME, "legal").id == "legal@2"


def test_another_tenant_sees_nothing(registry: Registry, make: Makers) -> None:
    registry.publish(ACME, "legal", make(), model="ft:tiny:acme:legal:1")
    for name in ("legal@1", "legal", "ft:tiny:acme:legal:1"):
        with pytest.raises(UnknownModel, match="does not exist"):
            registry.find(OTHER, name)
    assert registry.list(OTHER) == ()
    assert registry.publish(OTHER, "legal", make()).version == 1


@pytest.mark.parametrize("id", ["../legal@1", "legal@x", "/etc@1", "legal@01", "a/b@1"])
def test_a_name_that_is_no_adapter_reads_no_folder(registry: Registry, id: str) -> None:
    with pytest.raises(UnknownModel):
        registry.find(ACME, id)


def test_a_change_shows_at_once_here_and_within_the_cache_time_elsewhere(
    db: Database, registry: Registry, make: Makers, tmp_path: Path, clock: Clock
) -> None:
    elsewhere = open_registry(db, tmp_path, clock)
    for _ in range(2):
        registry.publish(ACME, "legal", make())
    registry.promote(ACME, "legal@1")
    assert elsewhere.find(ACME, "legal").id == "legal@1"
    registry.promote(ACME, "legal@2")
    assert registry.find(ACME, "legal").id == "legal@2"
    clock.now += CACHE_S
    assert elsewhere.find(ACME, "legal").id == "legal@2"


def test_lists_go_on_after_an_id_and_can_be_narrowed(
    registry: Registry, make: Makers, clock: Clock
) -> None:
    for name in ("a", "b", "a"):
        clock.now += 1
        registry.publish(ACME, name, make())
    first = registry.page(ACME, Window(limit=2, order="asc"))
    rest = registry.page(ACME, Window(limit=2, after=first.items[-1].id, order="asc"))
    assert [v.id for v in (*first.items, *rest.items)] == ["a@1", "b@1", "a@2"]
    assert (first.has_more, rest.has_more) == (True, False)
    assert [v.id for v in registry.page(ACME, name="a").items] == ["a@2", "a@1"]
    registry.promote(ACME, "a@1")
    assert [v.id for v in registry.page(ACME, state=VersionState.PROMOTED).items] == ["a@1"]


# Its life


def test_a_rollback_goes_back_promotion_by_promotion(registry: Registry, make: Makers) -> None:
    for _ in range(4):
        registry.publish(ACME, "legal", make())
    for id in ("legal@1", "legal@3", "legal@2"):
        registry.promote(ACME, id)
    assert [registry.rollback(ACME, "legal").id for _ in range(2)] == ["legal@3", "legal@1"]
    states = {version.id: version.state for version in registry.list(ACME)}
    assert states == {f"legal@{n}": "promoted" if n == 1 else "staged" for n in (1, 2, 3, 4)}
    with pytest.raises(Conflict, match="no version of adapter 'legal' was promoted before"):
        registry.rollback(ACME, "legal")


def test_a_retired_version_takes_no_requests_until_it_is_promoted(
    registry: Registry, make: Makers
) -> None:
    registry.publish(ACME, "legal", make())
    assert asyncio.run(registry.get(ACME, LEGAL)).id == "acme/legal@1"
    registry.retire(ACME, "legal@1")
    for _ in range(2):
        with pytest.raises(UnknownModel, match="'legal@1' is retired: promote it"):
            asyncio.run(registry.get(ACME, LEGAL))
    assert registry.show(ACME, "legal@1").state == "retired"
    assert registry.promote(ACME, "legal@1").state == "promoted"
    assert asyncio.run(registry.get(ACME, LEGAL)).id == "acme/legal@1"


def test_a_deleted_version_leaves_its_number_and_nothing_else(
    registry: Registry, make: Makers
) -> None:
    registry.publish(ACME, "legal", make())
    path = asyncio.run(registry.get(ACME, LEGAL)).path
    with pytest.raises(Conflict, match="is staged and cannot become deleted: retire it first"):
        registry.delete(ACME, "legal@1")
    registry.retire(ACME, "legal@1")
    registry.delete(ACME, "legal@1")
    with pytest.raises(UnknownModel):
        registry.show(ACME, "legal@1")
    assert registry.list(ACME) == ()
    assert objects_of(registry) == set()
    assert not path.exists()


def test_a_delete_leaves_what_another_version_needs(registry: Registry, make: Makers) -> None:
    registry.publish(ACME, "legal", make(seed=1))
    twin = registry.publish(OTHER, "law", make(seed=1))
    registry.retire(ACME, "legal@1")
    registry.delete(ACME, "legal@1")
    assert objects_of(registry) == {file.sha256 for file in twin.manifest.values()}


@pytest.mark.parametrize(
    "uses",
    [
        {"adapter": "legal@1"},
        {"adapter": "legal"},
        {"rollout": {"legal@1": 0.5, "legal@2": 0.5}},
    ],
)
def test_what_an_assistant_needs_is_neither_retired_nor_deleted(
    db: Database, registry: Registry, make: Makers, uses: dict[str, object]
) -> None:
    for _ in range(2):
        registry.publish(ACME, "legal", make())
    registry.promote(ACME, "legal@1")
    Assistants(db).put(Assistant("desk", ACME, **uses))  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="used by the assistant 'desk'"):
        registry.retire(ACME, "legal@1")
    Assistants(db).delete(ACME, "desk")
    assert registry.retire(ACME, "legal@1").state == "retired"


def test_a_pin_holds_until_it_is_taken_or_the_version_retires(
    registry: Registry, make: Makers
) -> None:
    for _ in range(2):
        registry.publish(ACME, "legal", make())
    registry.pin(ACME, "legal@1")
    registry.pin(ACME, "legal@2")
    assert [version.pinned for version in registry.list(ACME)] == [True, True]
    registry.pin(ACME, "legal@1", False)
    registry.retire(ACME, "legal@2")
    assert [version.pinned for version in registry.list(ACME)] == [False, False]
    with pytest.raises(Conflict, match="is retired"):
        registry.pin(ACME, "legal@2")


@pytest.mark.parametrize("move", ["promote", "retire", "delete", "pin"])
def test_a_bare_name_changes_nothing(registry: Registry, make: Makers, move: str) -> None:
    registry.publish(ACME, "legal", make())
    with pytest.raises(InvalidRequest, match="say which version, as in 'legal@1'"):
        getattr(registry, move)(ACME, "legal")


# Files on this machine


async def test_the_files_are_copied_once_and_stay_where_they_are(
    registry: Registry, make: Makers, db: Database, tmp_path: Path, clock: Clock
) -> None:
    folder = make()
    registry.publish(ACME, "legal", folder)
    first, *others = await asyncio.gather(*(registry.get(ACME, LEGAL) for _ in range(8)))
    assert set(others) == {first}
    assert (first.path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert await open_registry(db, tmp_path, clock).get(ACME, LEGAL) == first
    shutil.rmtree(first.path)
    assert await registry.get(ACME, LEGAL) == first
    assert (first.path / WEIGHTS).is_file()


async def test_equal_names_of_two_tenants_never_share_a_folder(
    registry: Registry, make: Makers
) -> None:
    for tenant in (ACME, OTHER):
        registry.publish(tenant, "legal", make(seed=1))
    ours, theirs = [await registry.get(tenant, LEGAL) for tenant in (ACME, OTHER)]
    assert (ours.id, theirs.id) == ("acme/legal@1", "other/legal@1")
    assert ours.path != theirs.path


async def test_what_is_retired_elsewhere_is_forgotten_in_time_by_every_cache(
    db: Database, registry: Registry, make: Makers, tmp_path: Path, clock: Clock
) -> None:
    registry.publish(ACME, "legal", make())
    other = open_registry(db, tmp_path, clock)
    other.find(ACME, LEGAL)
    registry.retire(ACME, LEGAL)
    clock.now += 0.9 * CACHE_S
    with suppress(UnknownModel):
        await other.get(ACME, LEGAL)  # what was found may be this old, and no older
    clock.now += 0.1 * CACHE_S
    with pytest.raises(UnknownModel):
        await other.get(ACME, LEGAL)


async def test_what_is_retired_while_it_is_copied_is_not_kept_as_servable(
    registry: Registry, make: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish(ACME, "legal", make())
    copy = DiskCache.get

    def retired_meanwhile(cache: DiskCache, *args: Any) -> Path:
        registry.retire(ACME, LEGAL)
        return copy(cache, *args)

    monkeypatch.setattr(DiskCache, "get", retired_meanwhile)
    await registry.get(ACME, LEGAL)  # asked for it before
    with pytest.raises(UnknownModel):
        await registry.get(ACME, LEGAL)


async def test_however_many_wait_for_one_copy_others_find_threads(
    registry: Registry, make: Makers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("legal", "it"):
        registry.publish(ACME, name, make())
    copy, ends, copies = DiskCache.get, threading.Event(), []

    def slow(cache: DiskCache, entry: str, *args: Any) -> Path:
        copies.append(entry)
        assert not entry.startswith("legal") or ends.wait(20)
        return copy(cache, entry, *args)

    monkeypatch.setattr(DiskCache, "get", slow)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    waiting = [asyncio.create_task(registry.get(ACME, LEGAL)) for _ in range(64)]
    try:
        async with asyncio.timeout(10):
            assert (await registry.get(ACME, AdapterId("it@1"))).id == "acme/it@1"
        waiting.pop().cancel()  # one who goes away takes nothing from the others
    finally:
        ends.set()
    assert {found.id for found in await asyncio.gather(*waiting)} == {"acme/legal@1"}
    assert len(copies) == 2


@pytest.mark.parametrize(
    "ref", ["legal@99999999999999999999", "legal@2147483648", "le\0gal", "ft:\0", "legal@0"]
)
def test_names_that_sql_cannot_hold_are_unknown(registry: Registry, ref: str) -> None:
    with pytest.raises(UnknownModel):
        registry.find(ACME, ref)


async def test_a_damaged_object_is_not_served(registry: Registry, make: Makers) -> None:
    made = registry.publish(ACME, "legal", make())
    sha256 = made.manifest[WEIGHTS].sha256
    [path] = (Path(registry.cache.path("x")).parent.parent / "objects").rglob(sha256)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AdapterNotReady, match="is damaged in the store"):
        await registry.get(ACME, LEGAL)


async def test_samples_come_with_an_adapter_if_its_makers_gave_them(
    registry: Registry, make: Makers
) -> None:
    folder = make()
    registry.publish(ACME, "plain", folder)
    (folder / "samples.jsonl").write_text('{"text": "May I sue?"}\n\n{"text": "Who is liable?"}\n')
    registry.publish(ACME, "legal", folder)
    assert await registry.samples(ACME, AdapterId("plain@1")) == ()
    assert await registry.samples(ACME, LEGAL) == ("May I sue?", "Who is liable?")


# Folders that somebody copied in


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters" / ACME
    folder.mkdir(parents=True)
    return folder


async def test_an_adapter_copied_in_while_serving_is_found_without_a_restart(
    registry: Registry, inbox: Path
) -> None:
    assert registry.list(ACME) == ()
    with pytest.raises(UnknownModel, match="'legal@1' does not exist"):
        await registry.get(ACME, LEGAL)
    folder = write_adapter(inbox / LEGAL)
    found = await registry.get(ACME, LEGAL)
    assert (found.path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    write_adapter(inbox / "it@7", seed=2)
    assert [version.id for version in registry.list(ACME)] == ["it@7", "legal@1"]
    assert registry.find(ACME, "it").id == "it@7"


async def test_a_half_copied_adapter_becomes_ready_when_the_copy_ends(
    registry: Registry, inbox: Path, make: Makers
) -> None:
    source = make()
    (inbox / LEGAL).mkdir()
    shutil.copy(source / "adapter_config.json", inbox / LEGAL)
    (inbox / LEGAL / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:500])
    with pytest.raises(AdapterNotReady, match="still being copied"):
        await registry.get(ACME, LEGAL)
    assert registry.list(ACME) == ()
    assert objects_of(registry) == set()
    shutil.copy(source / WEIGHTS, inbox / LEGAL)
    assert (await registry.get(ACME, LEGAL)).id == "acme/legal@1"


async def test_changed_weights_are_refused_and_the_message_says_to_publish_a_version(
    registry: Registry, inbox: Path, make: Makers, clock: Clock
) -> None:
    folder = write_adapter(inbox / LEGAL, seed=1)
    await registry.get(ACME, LEGAL)
    original = (folder / WEIGHTS).read_bytes()
    shutil.copy(make(seed=9) / WEIGHTS, folder)
    clock.now += CACHE_S
    for _ in range(2):
        with pytest.raises(Conflict, match="publish them as 'legal@2'"):
            await registry.get(ACME, LEGAL)
    (folder / WEIGHTS).write_bytes(original)
    assert (await registry.get(ACME, LEGAL)).id == "acme/legal@1"


def test_a_card_that_states_the_hash_is_believed(registry: Registry, inbox: Path) -> None:
    folder = write_adapter(inbox / LEGAL)
    (folder / "card.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(Conflict, match=r"sha256 in card\.json"):
        registry.find(ACME, LEGAL)


def test_what_cannot_be_served_is_passed_over_and_said_once(
    registry: Registry, inbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("legal@10", "legal@9", "it@1"):
        write_adapter(inbox / name)
    write_adapter(inbox / "broken@1", use_dora=True)
    (inbox / "notes").mkdir()
    with caplog.at_level(logging.WARNING, "engram.adapters"):
        for _ in range(3):
            assert [v.id for v in registry.list(ACME)] == ["it@1", "legal@9", "legal@10"]
    assert len(caplog.messages) == 2
    assert any("broken@1 is not served: DoRA" in message for message in caplog.messages)


def test_a_refused_folder_is_not_read_again_until_it_changes(
    registry: Registry, inbox: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.folders.clock = clock
    folder = write_adapter(inbox / LEGAL, use_dora=True)
    copies, copied = [], Acceptance.copied

    def counted(acceptance: Acceptance, path: Path) -> Any:
        copies.append(path)
        return copied(acceptance, path)

    monkeypatch.setattr(Acceptance, "copied", counted)
    for ref in ("legal", "legal@1", "nothing"):
        with pytest.raises((InvalidRequest, UnknownModel)):
            registry.find(ACME, ref)
    assert len(copies) == 1
    clock.now += REFUSED_S
    assert registry.list(ACME) == ()
    assert len(copies) == 2
    shutil.rmtree(folder)
    write_adapter(folder, seed=2)
    assert registry.find(ACME, "legal@1").id == LEGAL


def test_a_folder_keeps_its_number_and_the_next_publish_goes_on_from_it(
    registry: Registry, inbox: Path, make: Makers
) -> None:
    write_adapter(inbox / "legal@4", seed=50)
    assert registry.publish(ACME, "legal", make()).version == 5


def test_a_deleted_version_does_not_come_back_from_its_folder(
    registry: Registry, inbox: Path
) -> None:
    write_adapter(inbox / LEGAL)
    registry.retire(ACME, "legal@1")
    registry.delete(ACME, "legal@1")
    with pytest.raises(UnknownModel, match="was deleted"):
        registry.find(ACME, "legal@1")
    assert registry.list(ACME) == ()


def test_two_replicas_that_see_a_folder_at_once_take_it_in_once(
    db: Database, inbox: Path, tmp_path: Path, clock: Clock
) -> None:
    write_adapter(inbox / LEGAL)
    replicas = [open_registry(db, tmp_path, clock) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda replica: replica.find(ACME, LEGAL), replicas))
    assert {version.id for version in found} == {LEGAL}
    assert len(replicas[0].list(ACME)) == 1


def test_an_adapter_over_the_engines_rank_is_refused(
    db: Database, inbox: Path, tmp_path: Path, clock: Clock
) -> None:
    write_adapter(inbox / LEGAL, rank=16)
    with pytest.raises(InvalidRequest, match="rank 16 is over"):
        open_registry(db, tmp_path, clock, max_rank=8).find(ACME, LEGAL)
    assert open_registry(db, tmp_path, clock).find(ACME, LEGAL).rank == 16


def test_a_tenant_without_folders_is_no_error(db: Database, registry: Registry) -> None:
    Keys(db).ensure_tenant(TenantId("new"))
    assert registry.list(TenantId("new")) == ()
