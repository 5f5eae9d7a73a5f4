"""The child process that reads files: `python -m serving.ingest.parser_process MEMORY_MIB`.

A request on standard input is a line of JSON (`filename`, `bytes`, `max_words`, `overlap_words`)
and then the bytes; the answer on standard output is lines of JSON: chunks in batches, then `done`
or `error`. JSON, so that a parser that was taken over can say nothing but text. Ends when its
standard input does, and by itself when memory ran short.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from serving.ingest.cutting import cut
from serving.ingest.strategy import Strategy
from serving.ingest.unreadable import Unreadable
from serving.retrieval.chunker import Chunk

BATCH = 64
_AWAY_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h

Request = tuple[dict[str, Any], bytes | None]


def main(memory_mib: int) -> None:
    replies, requests = _take_over_streams()
    _confine(memory_mib * 2**20)
    waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    while True:
        header, data = waiting.get()
        for reply in answer(header, data, memory_mib):
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()
        del data


def answer(header: dict[str, Any], data: bytes | None, memory_mib: int) -> Iterator[dict[str, Any]]:
    filename = header["filename"]
    try:
        if data is None:
            raise MemoryError
        pieces = cut(filename, data, Strategy(header["max_words"], header["overlap_words"]))
        while batch := list(islice(pieces, BATCH)):
            yield {"chunks": [_plain(piece) for piece in batch]}
    except Unreadable as error:
        yield {"error": error.message, "code": error.error_code}
    except MemoryError:
        yield {"error": f"'{filename}' needs more than {memory_mib} MiB of memory to read."}
        os._exit(1)
    else:
        yield {"done": True}


def _plain(piece: Chunk) -> list[Any]:
    return [piece.text, piece.title, piece.heading_path, piece.start, piece.end]


def _take_over_streams() -> tuple[BinaryIO, BinaryIO]:
    """Whatever a library prints must not be taken for an answer."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    requests = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return replies, requests


def _confine(memory_bytes: int) -> None:
    """Address space bounded; no files written, no core dumps; ends with the worker's thread, even
    inside a library that never comes back."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _receive(requests: BinaryIO, waiting: queue.SimpleQueue[Request]) -> None:
    """In a thread of its own, so that the end of the worker ends a parser that is still busy."""
    try:
        while line := requests.readline():
            header = json.loads(line)
            waiting.put((header, _read(requests, header["bytes"])))
    finally:
        os._exit(0)


def _read(requests: BinaryIO, size: int) -> bytes | None:
    """None when there is no memory for it; it is read away all the same."""
    try:
        return requests.read(size)
    except MemoryError:
        while size > 0 and (piece := requests.read(min(size, _AWAY_BYTES))):
            size -= len(piece)
        return None


if __name__ == "__main__":
    main(int(sys.argv[1]))
