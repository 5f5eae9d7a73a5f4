"""Uploaded files: scoped by tenant, listed in pages, deleted with everything made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.files import Files
from serving.store.objects import FolderObjects
from serving.store.pages import Window
from tests.store.conftest import ACME, OTHER, Clock


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "objects")


@pytest.fixture
def files(db: Database, objects: FolderObjects, clock: Clock) -> Files:
    return Files(db, objects, clock)


def test_a_file_keeps_its_content(files: Files) -> None:
    created = files.create(ACME, "a.md", b"text", purpose="user_data")
    assert files.get(ACME, created.id) == created
    assert files.content(ACME, created.id) == b"text"
    assert (created.bytes, created.purpose) == (4, "user_data")


def test_another_tenants_file_looks_like_an_unknown_one(files: Files) -> None:
    created = files.create(ACME, "a.md", b"text")
    for attempt in (files.get, files.content, files.delete):
        with pytest.raises(NotFound) as theirs:
            attempt(OTHER, created.id)
        assert str(theirs.value) == f"No such file: '{created.id}'."
    assert files.list(OTHER).items == ()


def test_a_list_goes_on_after_an_id(files: Files, clock: Clock) -> None:
    created = []
    for n in range(5):
        clock.now += 1
        created.append(files.create(ACME, f"{n}.md", b"text"))
    first = files.list(ACME, Window(limit=2, order="asc"))
    second = files.list(ACME, Window(limit=3, after=first.items[-1].id, order="asc"))
    assert [*first.items, *second.items] == created
    assert (first.has_more, second.has_more) == (True, False)
    assert list(files.list(ACME).items) == created[::-1]


@pytest.mark.parametrize(
    "window",
    [
        {"limit": 0},
        {"limit": 10_001},
        {"order": "up"},
        {"after": "file-nobody"},
        {"before": "file-nobody"},
    ],
)
def test_a_bad_window_is_named(files: Files, window: dict[str, object]) -> None:
    with pytest.raises((InvalidRequest, NotFound)) as caught:
        files.list(ACME, Window(**window))  # type: ignore[arg-type]
    assert caught.value.param == next(iter(window))


def test_a_purpose_selects(files: Files) -> None:
    files.create(ACME, "a.md", b"text")
    wanted = files.create(ACME, "b.md", b"text", purpose="user_data")
    assert files.list(ACME, purpose="user_data").items == (wanted,)


def test_bytes_stay_while_any_file_has_them(files: Files, objects: FolderObjects) -> None:
    ours, theirs = (files.create(tenant, "a.md", b"text") for tenant in (ACME, OTHER))
    files.delete(ACME, ours.id)
    assert files.content(OTHER, theirs.id) == b"text"
    files.delete(OTHER, theirs.id)
    assert not objects.exists(theirs.sha256)
