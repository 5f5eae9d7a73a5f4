"""One part of a snapshot as bytes: chunks as JSON lines, compressed, then keys and vectors as they
lie in memory. Read without running anything, unlike a pickle.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.store.chunks import StoredChunk
from serving.store.drafts import Vector
from serving.types import VectorStoreId

MAGIC = b"engram-part-1\n"
LEVEL = 1  # the disk is faster than a higher one


class PartError(ValueError):
    """The bytes are no part, or of another version."""


def encode(rows: Sequence[StoredChunk]) -> bytes:
    """Vectors may differ in length, where a store is of another model than the rest."""
    dim = max(len(row.embedding) for row in rows)
    vectors = np.zeros((len(rows), dim), "<f4")
    lengths = [len(row.embedding) for row in rows]
    for vector, row in zip(vectors, rows, strict=True):
        vector[: len(row.embedding)] = row.embedding
    lines = "\n".join(json.dumps(_fields(row), ensure_ascii=False) for row in rows)
    text = zlib.compress(lines.encode(), LEVEL)
    header = json.dumps({"rows": len(rows), "dim": dim, "text": len(text), "lengths": lengths})
    keys = np.array([row.seq for row in rows], "<i8")
    return b"".join((MAGIC, header.encode(), b"\n", text, keys.tobytes(), vectors.tobytes()))


def decode(data: bytes) -> list[StoredChunk]:
    """What `encode` was given; the vectors share memory with one array.

    Raises:
        PartError: these are other bytes.
    """
    if not data.startswith(MAGIC):
        raise PartError("a part is of another version")
    try:
        return _decode(data)
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise PartError("a part cannot be read") from error


def _decode(data: bytes) -> list[StoredChunk]:
    end = data.index(b"\n", len(MAGIC))
    header = json.loads(data[len(MAGIC) : end])
    rows, dim, text = header["rows"], header["dim"], header["text"]
    at = end + 1
    lines = zlib.decompress(data[at : at + text]).decode().split("\n")
    keys = np.frombuffer(data, "<i8", rows, at + text)
    vectors = np.frombuffer(data, "<f4", rows * dim, at + text + keys.nbytes).reshape(rows, dim)
    parts = zip(keys.tolist(), lines, vectors, header["lengths"], strict=True)
    return [_chunk(key, json.loads(line), row[:length]) for key, line, row, length in parts]


def _fields(row: StoredChunk) -> list[Any]:
    source = [row.id, row.store, row.file_id]
    return [*source, row.text, row.title, row.heading_path, row.start, row.end]


def _chunk(key: int, fields: list[Any], vector: Vector) -> StoredChunk:
    id, store, file_id, text, title, heading_path, start, end = fields
    path = tuple(heading_path)
    place = VectorStoreId(store)
    return StoredChunk(key, id, place, file_id, text, title, path, start, end, vector)
