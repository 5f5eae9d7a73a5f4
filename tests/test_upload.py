"""Syncing a folder with a vector store, against a gateway in this process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.remote import ServerError
from serving.settings import Settings
from serving.upload.plan import Plan, Stored, plan
from serving.upload.tree import Local, Tree
from serving.upload.uploader import Sent, Uploader
from serving.watch import changes
from tests.api.conftest import Gateway, scripted, serve
from tests.running import eventually


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings: Settings = scripted(tmp_path_factory.mktemp("data"))
    with serve(settings) as running:
        yield running


@pytest.fixture
def uploader(gateway: Gateway) -> Iterator[Uploader]:
    with Uploader(f"{gateway.url}/v1", gateway.client.api_key) as uploader:
        yield uploader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/README.md", "b/README.md", "top.txt", ".git/hidden.md", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n\nWords of {name}.\n")
    return tmp_path


def sync(uploader: Uploader, tree: Tree, store: str, *, prune: bool = False) -> list[Sent]:
    todo = uploader.plan(tree, store, prune=prune)
    return uploader.carry_out(todo, store, lambda _sent: None)


def paths(gateway: Gateway, store: str) -> dict[str, str]:
    files = gateway.client.vector_stores.files.list(store)
    return {str((file.attributes or {})["path"]): file.id for file in files}


def test_a_folder_is_sent_once(gateway: Gateway, uploader: Uploader, folder: Path) -> None:
    store = uploader.store("once")
    assert {sent.path for sent in sync(uploader, Tree.of(folder), store)} == {
        *("a/README.md", "b/README.md", "top.txt")
    }
    before = paths(gateway, store)
    assert sync(uploader, Tree.of(folder), store) == []
    assert uploader.plan(Tree.of(folder), store) == Plan(unchanged=3)
    assert paths(gateway, store) == before


def test_a_part_of_the_folder_with_the_same_root_is_known(
    gateway: Gateway, uploader: Uploader, folder: Path
) -> None:
    store = uploader.store("part")
    sync(uploader, Tree.of(folder), store)
    part = Tree.of(folder / "a", root=folder)
    assert uploader.plan(part, store, prune=True) == Plan(unchanged=1)
    with pytest.raises(ServerError, match="not below the root"):
        Tree.of(folder, root=folder / "a")


def test_a_change_takes_the_place_of_the_old_and_a_deleted_file_goes(
    gateway: Gateway, uploader: Uploader, folder: Path
) -> None:
    store = uploader.store("changes")
    tree = Tree.of(folder)
    sync(uploader, tree, store)
    before = paths(gateway, store)
    (folder / "top.txt").write_text("Other words entirely.")
    (folder / "b/README.md").unlink()
    assert len(uploader.plan(tree, store).delete) == 0
    assert str(uploader.plan(tree, store, prune=True)) == (
        "0 to add, 1 changed, 0 to read again, 1 to delete, 1 unchanged"
    )
    sync(uploader, tree, store, prune=True)
    after = paths(gateway, store)
    assert set(after) == {"a/README.md", "top.txt"}
    assert after["a/README.md"] == before["a/README.md"]
    assert after["top.txt"] != before["top.txt"]
    assert [file.id for file in gateway.client.files.list() if file.id == before["top.txt"]] == []


def test_a_file_that_another_store_has_is_not_deleted_with_its_place(
    gateway: Gateway, uploader: Uploader, folder: Path
) -> None:
    client, tree = gateway.client, Tree.of(folder)
    store, other = uploader.store("mine"), uploader.store("also-mine")
    sync(uploader, tree, store)
    mine = paths(gateway, store)
    for name in ("top.txt", "b/README.md"):
        client.vector_stores.files.create_and_poll(mine[name], vector_store_id=other)
    (folder / "top.txt").write_text("Other words entirely.")
    (folder / "b/README.md").unlink()
    (folder / "a/README.md").unlink()
    sync(uploader, tree, store, prune=True)
    assert set(paths(gateway, store)) == {"top.txt"}
    kept = {file.id for file in client.vector_stores.files.list(other)}
    assert kept == {mine["top.txt"], mine["b/README.md"]}
    uploaded = {file.id for file in client.files.list()}
    assert kept < uploaded and mine["a/README.md"] not in uploaded


def test_each_file_is_told_as_it_ends_and_asked_for_by_itself(
    gateway: Gateway, uploader: Uploader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(40):
        (folder / f"{n}.md").write_text(f"# {n}\n\nWords of {n}.")
    store = uploader.store("many")
    todo = uploader.plan(Tree.of(folder), store)
    asked, told = list[str](), threading.Event()
    attached, call = f"POST /v1/vector_stores/{store}/files", uploader.call

    def counted(method: str, path: str, **request: Any) -> dict[str, Any]:
        asked.append(f"{method} {path}")
        if asked[-1] == attached and asked.count(attached) > 10:
            assert told.wait(60)  # the others are sent only once the end of one was told
        return call(method, path, **request)

    monkeypatch.setattr(uploader, "call", counted)
    sent = uploader.carry_out(todo, store, lambda _: told.set())
    assert len(sent) == 43 and not any(one.error for one in sent)
    assert f"GET /v1/vector_stores/{store}/files" not in asked  # the whole store


def test_the_server_says_how_much_memory_its_worker_took(uploader: Uploader, folder: Path) -> None:
    sync(uploader, Tree.of(folder), uploader.store("memory"))
    assert (uploader.ingest_memory() or 0) > 2**20


def test_a_file_that_fails_is_told_with_its_reason_and_tried_again(
    uploader: Uploader, folder: Path
) -> None:
    store = uploader.store("fails")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 oops")
    sent = {one.path: one.error for one in sync(uploader, Tree.of(folder), store)}
    assert sent["top.txt"] is None
    assert "cannot be read" in str(sent["broken.pdf"])
    assert [one.path for one in uploader.plan(Tree.of(folder), store).wait] == ["broken.pdf"]
    [again] = sync(uploader, Tree.of(folder), store)
    assert (again.path, again.error) == ("broken.pdf", sent["broken.pdf"])


def test_a_file_over_the_limit_is_told_with_its_reason(uploader: Uploader, folder: Path) -> None:
    (folder / "big.txt").write_text("word " * 40_000)
    tree = Tree.of(folder, include=["big.*"])
    [sent] = sync(uploader, tree, uploader.store("big"))
    assert sent.error is not None and "limit" in sent.error


def test_globs_choose_files(folder: Path) -> None:
    def chosen(include: list[str], exclude: list[str]) -> list[str]:
        return [file.path for file in Tree.of(folder, None, include, exclude).files()]

    assert chosen(["*.txt"], []) == ["top.txt"]
    assert chosen([], ["a/*"]) == ["b/README.md", "top.txt"]
    assert chosen(["README.md"], ["b/*"]) == ["a/README.md"]


def local(path: str, sha256: str) -> Local:
    return Local(path, Path(path), sha256)


def test_a_plan_waits_for_what_is_being_read_and_reads_again_what_failed() -> None:
    stored = [
        Stored("f1", "a", "1", "in_progress"),
        Stored("f2", "b", "1", "failed"),
        Stored("f3", "b", "0", "completed"),
    ]
    made = plan([local("a", "1"), local("b", "1"), local("c", "1")], stored, prune=True)
    assert [known.file_id for known in made.wait] == ["f1", "f2"]
    assert [file.path for file in made.add] == ["c"]
    assert made.delete == ()
    assert {path: [one.file_id for one in made.earlier[path]] for path in made.earlier} == {
        "a": [],
        "b": ["f3"],
        "c": [],
    }


def test_a_plan_deletes_versions_that_another_has_outlived() -> None:
    stored = [
        Stored("f1", "a", "0", "completed"),  # whoever put f2 there was killed before this
        Stored("f2", "a", "1", "completed"),
        Stored("f3", "a", "2", "in_progress"),  # somebody else's
    ]
    made = plan([local("a", "1")], stored, prune=False)
    assert made == Plan(delete=(stored[0],), unchanged=1)


@pytest.mark.timeout(240)
def test_watching_syncs_every_change_and_outlives_the_server(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    settings = scripted(tmp_path_factory.mktemp("watched"))
    first, second = serve(settings), serve(settings)
    second._port = first._port
    with first as gateway:
        url, key = f"{gateway.url}/v1", gateway.client.api_key
    command = [
        sys.executable,
        "-m",
        "serving.cli",
        "ingest",
        str(folder),
        "--store",
        "w",
        "--watch",
    ]
    watcher = subprocess.Popen(
        [*command, "--url", url, "--api-key", key], stderr=subprocess.PIPE, text=True
    )
    try:
        assert watcher.stderr is not None
        assert "trying again" in watcher.stderr.readline()  # no server yet
        with second as gateway:
            with Uploader(url, key) as uploader:
                store = uploader.store("w")

            def holds(*names: str) -> bool:
                return set(paths(gateway, store)) == set(names)

            everything = ("a/README.md", "b/README.md", "top.txt")
            eventually(lambda: holds(*everything), within_s=90)
            (folder / "new.md").write_text("# New")
            eventually(lambda: holds(*everything, "new.md"), within_s=60)
            (folder / "new.md").unlink()
            (folder / "top.txt").unlink()
            eventually(lambda: holds(*everything[:2]), within_s=60)
    finally:
        watcher.kill()
        watcher.communicate()


def test_changes_are_seen_as_they_happen(folder: Path) -> None:
    stop = threading.Event()
    seen = changes(folder, stop)
    assert next(seen) is True
    writing = threading.Timer(0.5, (folder / "new.md").write_text, ("# New",))
    writing.start()
    while not next(seen):
        pass
    stop.set()
    assert "new.md" in [file.path for file in Tree.of(folder).files()]
