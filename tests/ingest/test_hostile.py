"""Hostile files end as failed with a reason of their own, and harm no other file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection

import psutil
import pytest

from serving.ingest.sandbox import Abandoned, ParserEnded, Sandbox
from serving.ingest.strategy import Strategy
from serving.ingest.unreadable import Unreadable
from serving.settings import IngestSettings
from serving.store.models import VectorStoreFileRow
from serving.store.vector_stores import FileStatus
from tests.ingest.hostile import FILES
from tests.ingest.test_worker import attach, chunks, ended
from tests.retrieval.conftest import LEAVE, World

HOW = Strategy(96)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox(IngestSettings())) as sandbox:
        yield sandbox


def cut(sandbox: Sandbox, filename: str, data: bytes) -> list[str]:
    return [piece.text for piece in sandbox.cut(filename, data, HOW, lambda: False)]


@pytest.mark.parametrize(("filename", "make", "reason"), FILES, ids=[name for name, *_ in FILES])
def test_a_hostile_file_is_refused_with_its_reason(
    sandbox: Sandbox, filename: str, make: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        cut(sandbox, filename, make())
    assert f"'{filename}'" in refused.value.message
    assert reason in refused.value.message
    assert cut(sandbox, "good.md", b"# Good\n\nWords.") == ["Words."]


BIG_HTML = b"<p>Words about pumps and valves.</p>\n" * 1_000_000


def test_a_file_that_needs_too_much_memory_is_refused() -> None:
    with closing(Sandbox(IngestSettings(memory_mib=320))) as small:
        with pytest.raises(Unreadable, match="needs more than 320 MiB of memory"):
            cut(small, "big.html", BIG_HTML)
        assert cut(small, "good.md", b"Words.") == ["Words."]


def test_a_file_that_does_not_even_fit_into_memory_is_refused() -> None:
    with closing(Sandbox(IngestSettings(memory_mib=320))) as small:
        with pytest.raises(Unreadable, match="needs more than 320 MiB of memory"):
            cut(small, "big.txt", bytes(400 * 2**20))
        assert cut(small, "good.md", b"Words.") == ["Words."]


def test_a_parser_gets_none_of_the_workers_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAM_DATABASE_URL", "postgresql://user:secret@db")
    with closing(Sandbox(IngestSettings())) as sandbox:
        assert cut(sandbox, "good.md", b"Words.") == ["Words."]
        assert sandbox._child is not None
        assert "ENGRAM_DATABASE_URL" not in psutil.Process(sandbox._child.pid).environ()


def test_a_file_that_takes_too_long_is_refused() -> None:
    with (
        closing(Sandbox(IngestSettings(timeout_s=0.01))) as hasty,
        pytest.raises(Unreadable, match=r"takes longer than 0\.01 s"),
    ):
        cut(hasty, "big.html", BIG_HTML)


@pytest.mark.parametrize(
    ("number", "error", "reason"),
    [
        (signal.SIGSEGV, Unreadable, "ended its parser (SIGSEGV)"),
        (signal.SIGKILL, ParserEnded, "was killed"),
    ],
)
def test_a_parser_that_dies_is_told_apart_from_one_that_was_killed(
    sandbox: Sandbox, number: signal.Signals, error: type[Exception], reason: str
) -> None:
    assert cut(sandbox, "good.md", b"Words.") == ["Words."]
    assert sandbox._child is not None
    pid = sandbox._child.pid
    os.kill(pid, signal.SIGSTOP)  # it will not have read anything yet

    def end() -> None:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)

    killer = threading.Timer(0.3, end)
    killer.start()
    with pytest.raises(error) as ended:
        cut(sandbox, "big.html", b"<p>Words.</p>")
    killer.join()
    assert reason in str(ended.value)
    assert cut(sandbox, "good.md", b"Words.") == ["Words."]


def test_nobody_waits_for_a_file_that_is_abandoned(sandbox: Sandbox) -> None:
    with pytest.raises(Abandoned):
        list(sandbox.cut("big.html", BIG_HTML, HOW, lambda: True))
    assert cut(sandbox, "good.md", b"Words.") == ["Words."]


def work_until_killed(pids: Connection) -> None:
    sandbox = Sandbox(IngestSettings())
    cut(sandbox, "good.md", b"Words.")
    assert sandbox._child is not None
    pids.send(sandbox._child.pid)
    sandbox._child.reply(within_s=600)


def test_a_parser_that_hangs_ends_with_its_killed_worker() -> None:
    ours, theirs = Pipe()
    worker = get_context("spawn").Process(target=work_until_killed, args=(theirs,))
    worker.start()
    parser = psutil.Process(ours.recv())
    parser.suspend()  # it will not see that its standard input has ended
    worker.kill()
    worker.join()
    gone, _ = psutil.wait_procs([parser], timeout=30)
    assert gone or parser.status() == psutil.STATUS_ZOMBIE


async def test_a_good_file_completes_among_all_that_are_hostile(world: World) -> None:
    bad = {attach(world, name, make()): (name, reason) for name, make, reason in FILES}
    good = attach(world, "leave.md", LEAVE)
    async with world.worker():
        assert (await ended(world, good)).status is FileStatus.COMPLETED
        for file_id, (name, reason) in bad.items():
            file = await ended(world, file_id)
            assert file.status is FileStatus.FAILED
            assert file.last_error and f"'{name}'" in file.last_error and reason in file.last_error
            expected = "unsupported_file" if "no supported type" in reason else "invalid_file"
            assert error_code(world, file_id) == expected
    assert {piece.title for piece in chunks(world)} == {"Leave"}


def error_code(world: World, file_id: str) -> str | None:
    with world.db.snapshot() as session:
        return session.get_one(VectorStoreFileRow, (world.store, file_id)).error_code
