"""Ingest here and now: idempotent by content, and honest about failure."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.errors import NotFound
from serving.store.chunks import StoredChunk, follow
from serving.store.vector_stores import FileStatus
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, OTHER, World


def chunks(world: World) -> list[StoredChunk]:
    return [piece for changes in follow(world.db, 0) for piece in changes.chunks]


def test_chunks_say_where_they_are_from(world: World) -> None:
    file = world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    assert (file.status, file.chunks, file.filename) == (FileStatus.COMPLETED, 2, "leave.md")
    first, second = chunks(world)
    assert (first.heading_path, second.heading_path) == (
        ("Leave", "Annual leave"),
        ("Leave", "Parental leave"),
    )
    assert first.id == f"{file.id}-0" and first.title == "Leave"


def test_the_same_file_again_adds_nothing(world: World) -> None:
    first, again = (
        world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE) for _ in range(2)
    )
    assert again == first
    assert len(chunks(world)) == 2
    assert len(world.files.list(ACME).items) == 1


def test_the_same_file_with_new_attributes_changes_only_those(world: World) -> None:
    first, again = (
        world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE, {"year": year})
        for year in (2023, 2024)
    )
    assert (again.id, again.attributes) == (first.id, {"year": 2024})


def test_changed_content_replaces_the_old(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    changed = LEAVE.replace(b"30 days", b"31 days")
    file = world.pipeline().ingest_file(ACME, world.store, "leave.md", changed)
    assert {piece.file_id for piece in chunks(world)} == {file.id}
    assert "31 days" in chunks(world)[0].text
    assert [one.id for one in world.stores.files(ACME, world.store).items] == [file.id]


def test_two_files_of_one_name_stay_when_attached_by_id(world: World) -> None:
    for data in (LEAVE, CANTEEN):
        file = world.files.create(ACME, "notes.md", data)
        world.stores.attach(ACME, world.store, file.id)
        world.pipeline().process(ACME, world.store, file.id)
    assert len(chunks(world)) == 3


def test_a_file_is_cut_as_it_was_attached(world: World) -> None:
    file = world.files.create(ACME, "long.md", b"word " * 300)
    size = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    wish = {"type": "static", "static": size}
    world.stores.attach(ACME, world.store, file.id, chunking=wish)
    assert world.pipeline().process(ACME, world.store, file.id).chunks == 3
    assert {len(piece.text.split()) for piece in chunks(world)} == {100}


def test_a_file_that_cannot_be_read_fails_with_its_reason(world: World) -> None:
    file = world.pipeline().ingest_file(ACME, world.store, "broken.pdf", b"%PDF-1.7 oops")
    assert file.status is FileStatus.FAILED
    assert file.last_error and "'broken.pdf' cannot be read" in file.last_error
    assert chunks(world) == []


def test_a_broken_new_version_leaves_the_old_one(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    assert world.pipeline().ingest_file(ACME, world.store, "leave.md", b"").status == "failed"
    assert len(chunks(world)) == 2


def test_another_tenants_store_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.pipeline().ingest_file(OTHER, world.store, "leave.md", LEAVE)
    assert world.files.list(OTHER).items == ()


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([LEAVE, CANTEEN, b"One.", b""]), min_size=1, max_size=5))
def test_the_last_good_content_is_what_the_store_holds(world: World, versions: list[bytes]) -> None:
    for data in versions:
        world.pipeline().ingest_file(ACME, world.store, "file.md", data)
    good = [data for data in versions if data]
    held = {world.files.get(ACME, piece.file_id).sha256 for piece in chunks(world)}
    if good:
        assert held == {world.files.create(OTHER, "x.md", good[-1]).sha256}
