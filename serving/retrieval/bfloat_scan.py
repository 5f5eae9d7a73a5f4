"""Exact nearest neighbours of a batch of queries by way of a bfloat16 copy of the rows.

The copy says quickly which rows could be among the best; these alone are scored in float32. What
rounding can do to a product is bounded (Cauchy and Schwarz), and every row within that bound is
scored, so nothing is missed. PyTorch multiplies, since FAISS and numpy know no bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from serving.retrieval.bfloat import Halves, halves, lost, wholes
from serving.retrieval.embedder import Vectors
from serving.retrieval.index import Nearest, nearest_of
from serving.retrieval.rows import Block
from serving.retrieval.torch_threads import use_threads

# PyTorch compiles a kernel for each new shape, which takes longer than a search: there are four.
TILE_ROWS = 4_096  # multiplied at once: their products stay in the processor's cache
FEWEST_COLUMNS = 8  # then 16, 32 and 64
GROUP = 32  # rows that are looked at one by one only if the best of them is good enough
FEWEST_ROWS = TILE_ROWS  # below, FAISS's scan takes no time anyway
FEWEST_QUERIES = 2  # PyTorch is slow with one
MOST_SCORED = 64  # times k rows a query; more are alike than this can tell apart
_SUMMING = 1e-4  # a bound for what adding 1,000 products in float32 may lose, relative
_ROUNDING = 2.0**-8  # twice what rounding a product to bfloat16 may lose, relative

Bits = NDArray[np.int16]  # bfloat16, whose order is that of integers while positive


class _Groups(NamedTuple):
    """The best product of each group for each query, and which rows are in it."""

    best: Bits  # [queries, groups]
    first: NDArray[np.int64]  # [groups]: its rows are first, first + step, …
    step: int

    def rows(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """[groups, GROUP]"""
        return self.first[groups, None] + self.step * np.arange(GROUP)


def batch_scan(threads: int) -> Callable[[Block, Vectors, int], Nearest | None]:
    """`nearest`, on so many threads."""

    def scan(block: Block, queries: Vectors, k: int) -> Nearest | None:
        use_threads(threads)
        return nearest(block, queries, k)

    return scan


def nearest(block: Block, queries: Vectors, k: int) -> Nearest | None:
    """The k nearest rows of the block; None where FAISS's scan is as fast: with few rows or one
    query, or when too many rows are alike or none is near."""
    enough = len(queries) >= FEWEST_QUERIES and len(block.keys) >= max(FEWEST_ROWS, GROUP * k)
    if block.halves is None or not enough:
        return None
    products, groups = _multiply(block, queries)
    doubtful = _doubt(block, queries)
    least = np.partition(groups.best, -k, axis=1)[:, -k]  # k rows at least are as good
    if (least <= 0).any():
        return None
    bounds = wholes(least.view(np.uint16))
    floor = halves_below(bounds - 2 * doubtful - np.abs(bounds) * _ROUNDING)
    if (floor <= 0).any():
        return None
    asked, rows = _candidates(products, groups, floor, len(block.keys))
    if len(rows) > MOST_SCORED * k * len(queries):
        return None
    return _scored(block, queries, asked, rows, k)


def halves_below(numbers: NDArray[np.floating[Any]]) -> Bits:
    """The next bfloat16 towards zero."""
    return (np.asarray(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.int16)


def _multiply(block: Block, queries: Vectors) -> tuple[Bits, _Groups]:
    """Products [rows, columns], where there is no row or query being 0, and their groups."""
    assert block.halves is not None
    tile = min(TILE_ROWS, len(block.halves))
    rows = -(-len(block.keys) // tile) * tile
    by_column, store = _columns(queries), _tensor(block.halves)
    products = torch.empty((rows, by_column.shape[1]), dtype=torch.bfloat16)
    bits: Bits = products.view(torch.int16).numpy()
    best, first = [], []
    for begin in range(0, rows, tile):
        part = slice(begin, begin + tile)
        torch.mm(store[part], by_column, out=products[part])
        best.append(_best_of_groups(bits[part]))
        first.append(np.arange(begin, begin + tile // GROUP))
    of_queries = np.ascontiguousarray(np.concatenate(best).T[: len(queries)])
    return bits, _Groups(of_queries, np.concatenate(first), tile // GROUP)


def _columns(queries: Vectors) -> torch.Tensor:
    """[dim, columns]: the queries, and zeros up to a shape that is known."""
    columns = max(FEWEST_COLUMNS, 1 << (len(queries) - 1).bit_length())
    missing = ((0, columns - len(queries)), (0, 0))
    return _tensor(np.pad(halves(queries), missing)).T.contiguous()


def _best_of_groups(products: Bits) -> Bits:
    """Halves until a group is one row: so each step is one long loop for the processor."""
    size = GROUP
    while size > 1:
        middle, size = len(products) // 2, size // 2
        products = np.maximum(products[:middle], products[middle:])
    return products


def _doubt(block: Block, queries: Vectors) -> NDArray[np.float32]:
    """[queries]: how far a product of rounded vectors can be from the true one."""
    lengths = np.linalg.norm(queries, axis=1)
    rounded = lost(queries, halves(queries))
    of_rows = lengths * block.lost + rounded * (block.longest + block.lost)
    return np.asarray(of_rows + _SUMMING * lengths * block.longest, np.float32)


def _candidates(
    products: Bits, groups: _Groups, floor: Bits, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of query and row that reach the query's floor, by query."""
    asked, found = np.nonzero(groups.best >= floor[:, None])
    rows = groups.rows(found)
    reaches = products[rows, asked[:, None]] >= floor[asked, None]
    reaches &= rows < count
    return np.broadcast_to(asked[:, None], rows.shape)[reaches], rows[reaches]


def _scored(
    block: Block, queries: Vectors, asked: NDArray[np.int64], rows: NDArray[np.int64], k: int
) -> Nearest:
    parts = [
        nearest_of((block.vectors[chosen] @ query)[None], block.keys[chosen], k)
        for query, chosen in zip(queries, _by_query(asked, rows, len(queries)), strict=True)
    ]
    return Nearest(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.keys for part in parts]),
    )


def _by_query(
    asked: NDArray[np.int64], rows: NDArray[np.int64], queries: int
) -> Iterator[NDArray[np.int64]]:
    ends = np.searchsorted(asked, np.arange(1, queries))
    yield from np.split(rows, ends)


def _tensor(bits: Halves) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
