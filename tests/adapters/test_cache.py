"""Copies on local disk: made once, verified, bounded, and never taken from who just asked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.adapters.cache import DiskCache
from serving.errors import AdapterNotReady
from serving.store.objects import FolderObjects
from serving.types import StoredFile
from tests.store.conftest import Clock

GRACE_S = 120.0


class CountedObjects(FolderObjects):
    """Says how often each object was fetched."""

    fetched: Counter[str]

    def fetch(self, sha256: str, path: Path) -> None:
        self.fetched[sha256] += 1
        super().fetch(sha256, path)


@pytest.fixture
def objects(tmp_path: Path) -> CountedObjects:
    made = CountedObjects(tmp_path / "objects")
    made.fetched = Counter()
    return made


def cache_of(tmp_path: Path, objects: FolderObjects, clock: Clock, max_bytes: int) -> DiskCache:
    return DiskCache(tmp_path / "cache", max_bytes, objects, GRACE_S, clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def stored(objects: FolderObjects, data: bytes) -> Mapping[str, StoredFile]:
    return {"weights": StoredFile(objects.put(data), len(data))}


def entries(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").iterdir() if path.name != ".locks"}


def test_however_many_ask_one_copies(tmp_path: Path, objects: CountedObjects, clock: Clock) -> None:
    files = stored(objects, b"x" * 1_000_000)
    caches = [cache_of(tmp_path, objects, clock, 2**30) for _ in range(4)]  # as four replicas have
    with ThreadPoolExecutor(16) as pool:
        paths = set(pool.map(lambda n: caches[n % 4].get("a@1", files), range(32)))
    [path] = paths
    assert (path / "weights").read_bytes() == b"x" * 1_000_000
    assert set(objects.fetched.values()) == {1}
    assert entries(tmp_path) == {"a@1"}


def test_processes_that_ask_at_once_all_find_it_whole(tmp_path: Path, clock: Clock) -> None:
    objects = FolderObjects(tmp_path / "objects")
    data = b"weights" * 100_000
    sha256 = objects.put(data)
    code = (
        "import sys; from pathlib import Path\n"
        "from serving.adapters.cache import DiskCache\n"
        "from serving.store.objects import FolderObjects, digest_of\n"
        "from serving.types import StoredFile\n"
        "folder, sha256, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "cache = DiskCache(folder / 'cache', 2**30, FolderObjects(folder / 'objects'))\n"
        "path = cache.get('a@1', {'weights': StoredFile(sha256, size)})\n"
        "assert digest_of(path / 'weights') == sha256\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), sha256, str(len(data))]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert entries(tmp_path) == {"a@1"}


def test_the_least_recently_used_leaves_when_room_is_needed(
    tmp_path: Path, objects: CountedObjects, clock: Clock
) -> None:
    cache = cache_of(tmp_path, objects, clock, 250)
    files = {name: stored(objects, name.encode() * 100) for name in "abc"}
    for name in ("a", "b", "a"):
        cache.get(name, files[name])
        clock.now += GRACE_S + 1
    cache.get("c", files["c"])
    assert entries(tmp_path) == {"a", "c"}
    cache.get("b", files["b"])
    assert objects.fetched[files["b"]["weights"].sha256] == 2


def test_what_was_asked_for_just_now_stays_even_over_the_limit(
    tmp_path: Path, objects: CountedObjects, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_of(tmp_path, objects, clock, 150)
    files = {name: stored(objects, name.encode() * 100) for name in "ab"}
    cache.get("a", files["a"])
    clock.now += GRACE_S - 1
    cache.get("b", files["b"])
    assert entries(tmp_path) == {"a", "b"}
    assert "more disk than the cache's limit" in caplog.text


def test_a_copy_that_rotted_is_made_anew(
    tmp_path: Path, objects: CountedObjects, clock: Clock
) -> None:
    files = stored(objects, b"sound")
    path = cache_of(tmp_path, objects, clock, 2**30).get("a", files)
    (path / "weights").write_bytes(b"rotten")
    again = cache_of(tmp_path, objects, clock, 2**30).get("a", files)  # as after a restart
    assert (again / "weights").read_bytes() == b"sound"


@pytest.mark.parametrize("damage", [b"other bytes", None])
def test_an_object_that_is_not_what_it_should_be_leaves_no_copy(
    tmp_path: Path, objects: CountedObjects, clock: Clock, damage: bytes | None
) -> None:
    files = stored(objects, b"sound")
    sha256 = hashlib.sha256(b"sound").hexdigest()
    [path] = (tmp_path / "objects").rglob(sha256)
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(AdapterNotReady, match="weights of the adapter"):
        cache_of(tmp_path, objects, clock, 2**30).get("a", files)
    assert entries(tmp_path) == set()


def test_what_a_killed_process_left_is_swept(
    tmp_path: Path, objects: CountedObjects, clock: Clock
) -> None:
    cache = cache_of(tmp_path, objects, clock, 2**30)
    cache.get("a", stored(objects, b"x"))
    (tmp_path / "cache" / ".partial-dead").mkdir()
    cache.sweep()
    assert entries(tmp_path) == {"a", ".partial-dead"}  # its writer may be alive
    clock.now = (tmp_path / "cache" / ".partial-dead").stat().st_mtime + 3_601
    cache.sweep()
    assert entries(tmp_path) == {"a"}


def test_a_forgotten_entry_is_gone_while_its_reader_reads_on(
    tmp_path: Path, objects: CountedObjects, clock: Clock
) -> None:
    cache = cache_of(tmp_path, objects, clock, 2**30)
    path = cache.get("a", stored(objects, b"still read"))
    with (path / "weights").open("rb") as reader:
        cache.forget("a")
        assert entries(tmp_path) == set()
        assert reader.read() == b"still read"
