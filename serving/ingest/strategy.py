"""How a file is cut: OpenAI's `chunking_strategy`, or the setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Strategy:
    """Both in words, as `retrieval.chunk_tokens` counts them; the overlap is part of a chunk."""

    max_words: int
    overlap_words: int = 0


def strategy(chunking: Mapping[str, Any] | None, default_words: int) -> Strategy:
    """From what the file was attached with; `auto` and none at all are the default."""
    static = (chunking or {}).get("static")
    if not static:
        return Strategy(default_words)
    return Strategy(static["max_chunk_size_tokens"], static["chunk_overlap_tokens"])
