"""A file's bytes to chunks, in the order of the file, as its chunking strategy says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from serving.ingest.parsers import parse
from serving.ingest.strategy import Strategy
from serving.retrieval.chunker import Chunk, Parsed, chunk

_WORD_START = re.compile(r"(?<!\S)\S")


def cut(filename: str, data: bytes, how: Strategy) -> Iterator[Chunk]:
    """Chunks of one part of the file after another; offsets count over all parts.

    Raises:
        Unreadable: see `parsers.parse`.
    """
    offset = 0
    for part in parse(filename, data):
        for piece in _overlapped(part, how):
            yield replace(piece, start=piece.start + offset, end=piece.end + offset)
        offset += len(part.text) + 2  # as if a blank line stood between


def _overlapped(part: Parsed, how: Strategy) -> Iterator[Chunk]:
    """Each chunk begins with the last words of the one before it in its section."""
    chunks = chunk(part, max(1, how.max_words - how.overlap_words))
    yield from chunks[:1]
    for before, here in pairwise(chunks):
        if not how.overlap_words or before.heading_path != here.heading_path:
            yield here
            continue
        start = _back(part.text, before.start, here.start, how.overlap_words)
        yield replace(here, text=part.text[start : here.end], start=start)


def _back(text: str, lowest: int, start: int, words: int) -> int:
    """Where the `words` words before `start` begin, not below `lowest`."""
    starts = [match.start() for match in _WORD_START.finditer(text, lowest, start)]
    return starts[-words:][0] if starts else start
