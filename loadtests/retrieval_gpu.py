"""Exact search on a GPU against what the device could do: the share of its roofline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from loadtests.gpu_limits import measured_limits
from loadtests.retrieval_index import K, search_ms
from loadtests.statistics import estimate
from serving.retrieval.embedder import Vectors, unit
from serving.retrieval.faiss_index import gpu_flat
from serving.retrieval.index import Index, Keys

SIZES = ((1_000_000, 768), (10_000_000, 768))
BATCHES = (1, 184)
_SLICE = 250_000
_REPEATS = 20
_CHANGED = 100  # rows added, and as many deleted, before each search


@dataclass(frozen=True, slots=True)
class OnGpu:
    """`roofline`: the time that reading every vector, or every product, needs at least, as a share
    of what the search took."""

    chunks: int
    dim: int
    batch: int
    ms: float  # of the whole batch
    roofline: float
    changing_ms: float  # with adds and deletes before each search


def measure(say: Callable[[str], None]) -> Iterator[OnGpu]:
    """Needs FAISS built for GPUs, and PyTorch with CUDA to measure the device."""
    limits = measured_limits()
    for chunks, dim in SIZES:
        index, asked = _filled(chunks, dim)
        say(f"{chunks:,} × {dim} are on the GPU")
        for batch in BATCHES:
            ms = _median_ms(index, asked[:batch])
            share = limits.floor_s(chunks, dim, batch) * 1e3 / ms
            yield OnGpu(chunks, dim, batch, ms, share, _changing_ms(index, asked[:batch], chunks))


def _filled(chunks: int, dim: int) -> tuple[Index, Vectors]:
    """Random vectors: exact search takes as long over any."""
    index, chance = gpu_flat(dim), np.random.default_rng(0)
    for first in range(0, chunks, _SLICE):
        rows = unit(chance.standard_normal((_SLICE, dim), np.float32))
        index.add(np.arange(first, first + _SLICE), rows)
    return index, rows[: max(BATCHES)]


def _median_ms(index: Index, asked: Vectors) -> float:
    index.search(asked, K)
    return estimate([_whole_ms(index, asked) for _ in range(_REPEATS)]).value


def _changing_ms(index: Index, asked: Vectors, chunks: int) -> float:
    times = []
    for turn in range(_REPEATS):
        new = np.arange(_CHANGED) + chunks + _CHANGED * turn
        index.add(new, asked[:1].repeat(_CHANGED, axis=0))
        index.remove(new)
        times.append(_whole_ms(index, asked))
    return estimate(times).value


def _whole_ms(index: Index, asked: Vectors) -> float:
    def search(queries: Vectors) -> Keys:
        return index.search(queries, K).keys

    return search_ms(search, asked, time.perf_counter) * len(asked)
