"""Content-addressed bytes, in a folder and in fsspec's memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from serving.store.objects import FolderObjects, ObjectStore, digest_of


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return FolderObjects(tmp_path if request.param == "folder" else f"memory://{tmp_path.name}")


def test_bytes_come_back_under_their_hash(objects: ObjectStore) -> None:
    sha256 = objects.put(b"some bytes")
    assert sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert objects.get(sha256) == b"some bytes"
    assert objects.put(b"some bytes") == sha256


def test_what_is_deleted_or_was_never_there_is_not_found(objects: ObjectStore) -> None:
    sha256 = objects.put(b"some bytes")
    for _ in range(2):
        objects.delete(sha256)
    assert not objects.exists(sha256)
    with pytest.raises(FileNotFoundError):
        objects.get(sha256)


def test_no_half_written_object_is_left(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    sha256 = objects.put(b"some bytes")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [sha256]


def test_a_file_is_put_and_fetched_as_its_bytes_would_be(
    objects: ObjectStore, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"some bytes" * 200_000)
    sha256 = objects.put_file(source)
    assert sha256 == objects.put(source.read_bytes()) == digest_of(source)
    objects.fetch(sha256, target)
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        objects.fetch("0" * 64, target)


def test_what_is_stored_is_listed_and_what_dead_writers_left_goes(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    assert objects.stored() == []
    sha256 = objects.put(b"some bytes")
    fresh, old = (tmp_path / sha256[:2] / f"{sha256}.{name}" for name in ("fresh", "old"))
    for leftover in (fresh, old):
        leftover.write_bytes(b"some")
    os.utime(old, (1, 1))
    assert objects.stored() == [sha256]
    assert fresh.exists() and not old.exists()
