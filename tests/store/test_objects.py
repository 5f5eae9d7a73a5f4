"""Content-addressed bytes, in a folder and in fsspec's memory."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from serving.store.objects import FolderObjects, ObjectStore


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
