"""Vectors in bfloat16, the upper half of a float32: half the bytes, and where the processor
multiplies it, many times the speed. numpy has no such type, so it is kept as `uint16`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.embedder import Vectors

Halves = NDArray[np.uint16]  # [rows, dim]
_FLAGS = {"amx_bf16", "avx512_bf16"}


@cache
def multiplies_bfloat() -> bool:
    """Whether this processor has instructions for it; without, it is slower than float32."""
    described = Path("/proc/cpuinfo")
    return described.exists() and not _FLAGS.isdisjoint(described.read_text().split())


def halves(vectors: Vectors) -> Halves:
    """Rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def wholes(halves: Halves) -> Vectors:
    """Exactly what the halves stand for."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def lost(vectors: Vectors, halves: Halves) -> NDArray[np.float32]:
    """[rows]: how far each vector is from its halves, as a length."""
    return np.asarray(np.linalg.norm(vectors - wholes(halves), axis=-1), np.float32)
