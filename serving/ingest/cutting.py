"""A file's bytes to chunks, in the order of the file, as its chunking strategy says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from serving.ingest.parsers import parse
from serving.ingest.strategy import Strategy
from serving.retrieval.chunker import Chunk, chunk


def cut(filename: str, data: bytes, how: Strategy) -> Iterator[Chunk]:
    """Chunks of one part of the file after another; offsets count over all parts.

    Raises:
        Unreadable: see `parsers.parse`.
    """
    offset = 0
    for part in parse(filename, data):
        for piece in chunk(part, how.max_words, how.overlap_words):
            yield replace(piece, start=piece.start + offset, end=piece.end + offset)
        offset += len(part.text) + 2  # as if a blank line stood between
