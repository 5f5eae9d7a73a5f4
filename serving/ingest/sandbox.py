"""Reads files in a child process with bounded memory and time; see `parser_process.py`.

The child is kept for the next file and replaced when it died or had to be ended. It shares
nothing with the worker but two pipes, and gets none of its secrets. It is no jail: it runs as the
same user.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import psutil

from serving.ingest.strategy import Strategy
from serving.ingest.unreadable import Unreadable
from serving.retrieval.chunker import Chunk
from serving.settings import ROOT, IngestSettings

MAX_TEXT_CHARS = 256 * 2**20
_TIMEOUTS_PER_FILE = 10  # a long file may take so many, if it brings text before each one ends
_LOOK_S = 0.25  # how often a waiting worker asks whether it still should
_STALE_SHARE = 0.25  # of the limit: a child that has kept more is replaced after its file
_READ_BYTES = 64 * 1024
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")  # no secrets


class Abandoned(Exception):
    """Nobody waits for this file any more."""


class ParserEnded(Exception):
    """The child was ended from outside, so another attempt may succeed."""


class Sandbox:
    """For one thread. Closing it ends the child."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._child: _Child | None = None

    def cut(
        self, filename: str, data: bytes, how: Strategy, is_abandoned: Callable[[], bool]
    ) -> Generator[Chunk]:
        """The file's chunks as the child finds them.

        Raises:
            Unreadable: the file is broken, or took too much memory or time, or ended its parser.
            Abandoned: `is_abandoned` said so.
            ParserEnded: somebody killed the child.
        """
        if self._child is None or not self._child.is_alive():
            self._child = _Child(self._settings.memory_mib)
        child, finished = self._child, False
        try:
            yield from self._chunks(child, filename, data, how, is_abandoned)
            finished = child.memory_bytes() < _STALE_SHARE * self._settings.memory_mib * 2**20
        except Unreadable as error:
            finished = not isinstance(error, _Ended)
            raise
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _chunks(
        self,
        child: _Child,
        filename: str,
        data: bytes,
        how: Strategy,
        is_abandoned: Callable[[], bool],
    ) -> Iterator[Chunk]:
        child.ask(filename, data, how)
        limit_s = self._settings.timeout_s
        left_s, whole_s, chars = limit_s, limit_s * _TIMEOUTS_PER_FILE, 0
        while True:
            asked = time.monotonic()
            reply = child.reply(min(left_s, whole_s, _LOOK_S))
            waited = time.monotonic() - asked  # only waiting counts, not what the worker does
            left_s, whole_s = left_s - waited, whole_s - waited
            if is_abandoned():
                raise Abandoned
            if reply is None:
                self._check(child, filename, min(left_s, whole_s))
                continue
            if "error" in reply:
                raise _refusal(reply)
            if "done" in reply:
                return
            for text, title, path, start, end in reply["chunks"]:
                chars += len(text)
                yield Chunk(text, title, tuple(path), start, end)
            left_s = limit_s
            if chars > MAX_TEXT_CHARS:
                raise _Ended(f"'{filename}' has more than {MAX_TEXT_CHARS} characters of text.")

    def _check(self, child: _Child, filename: str, left_s: float) -> None:
        """Why there is no answer yet, if that is how it will stay."""
        if left_s <= 0:
            limit = self._settings.timeout_s
            raise _Ended(f"'{filename}' takes longer than {limit:g} s to read.")
        if child.is_alive():
            return
        if child.signal == signal.SIGKILL:
            raise ParserEnded(f"the parser was killed while it read '{filename}'")
        raise _Ended(f"'{filename}' cannot be read: it ended its parser ({child.how_it_ended}).")


class _Ended(Unreadable):
    """The child cannot be used again."""


def _refusal(reply: dict[str, Any]) -> Unreadable:
    if "code" not in reply:  # it ran out of memory, and ends
        return _Ended(reply["error"])
    refusal = Unreadable(reply["error"], param="file")
    refusal.error_code = reply["code"]
    return refusal


class _Child:
    """One parser process and its two pipes."""

    def __init__(self, memory_mib: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.ingest.parser_process", str(memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            bufsize=0,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._unread = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def memory_bytes(self) -> int:
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def signal(self) -> int | None:
        code = self._process.returncode
        return -code if code is not None and code < 0 else None

    @property
    def how_it_ended(self) -> str:
        if self.signal is not None:
            return signal.Signals(self.signal).name
        return f"exit code {self._process.returncode}"

    def ask(self, filename: str, data: bytes, how: Strategy) -> None:
        header = {
            "filename": filename,
            "bytes": len(data),
            "max_words": how.max_words,
            "overlap_words": how.overlap_words,
        }
        try:
            for part in (json.dumps(header).encode() + b"\n", data):
                rest = memoryview(part)
                while rest:
                    rest = rest[self._requests.write(rest) or 0 :]
        except BrokenPipeError:  # it has ended: how, the wait for its answer says
            self._process.wait()

    def reply(self, within_s: float) -> dict[str, Any] | None:
        """The next line; None if there was none in time, or there will be none."""
        until = time.monotonic() + max(0.0, within_s)
        while (end := self._unread.find(b"\n")) < 0:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            read = os.read(self._replies.fileno(), _READ_BYTES)
            if not read:
                self._process.wait()
                return None
            self._unread += read
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        reply: dict[str, Any] = json.loads(line)
        return reply

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()
