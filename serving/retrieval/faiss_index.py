"""Exact inner-product search by FAISS, on CPU or GPU. Only `faiss_*.py` import it.

Exact on purpose: up to some hundred thousand chunks it is fast enough, and adding and deleting
stay trivial; `index_kinds.py` says when a trained index takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import faiss
import numpy as np

from serving.retrieval.embedder import Vectors
from serving.retrieval.index import (
    NO_KEY,
    Keys,
    Nearest,
    NothingToRebuild,
    Rebuild,
    last_of_each,
    merged,
    nearest_of,
    nothing,
)
from serving.retrieval.rows import Block, Rows

# FAISS 1.15 turns to BLAS only where queries × dim reach this, by default at no useful batch size
# on few threads. With it a batch of 64 takes a fifth of the time; below 7 queries of 384 numbers on
# one thread their scans are faster one by one.
BLAS_THRESHOLD_PER_THREAD = 2_400
GPU_MAX_K = 2048
REBUILD_AT = 1024  # deleted rows
TILE = 8  # queries
GATHER_ROWS = 8_192  # at once, so that they stay in the processor's cache
WIDE_SHARE = 8  # a filter that passes an eighth is searched by widening


Scan = Callable[[Block, Vectors, int], Nearest | None]  # the exact k nearest, or not its case


def has_gpu() -> bool:
    """Whether FAISS was built for GPUs and finds one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def use_threads(threads: int) -> None:
    """For the calling thread; the threshold is one for the process."""
    faiss.omp_set_num_threads(threads)
    faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD_PER_THREAD * threads


class FlatIndex:
    """On CPU, over rows of its own: FAISS's own flat index moves all rows to delete one, and with
    a selector it does without BLAS, which makes a batch as slow as its searches one by one."""

    def __init__(self, dim: int, threads: int = 1, scan: Scan | None = None) -> None:
        """`scan` is tried before FAISS, over rows kept in bfloat16 too."""
        self._threads = threads
        self._batch_scan = scan
        self.rows = Rows(dim, with_halves=scan is not None)

    @property
    def dim(self) -> int:
        return self.rows.dim

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, keys: Keys, vectors: Vectors) -> None:
        self.rows.put(keys, vectors)

    def remove(self, keys: Keys) -> None:
        self.rows.remove(keys)

    def vectors(self, keys: Keys) -> Vectors:
        return self.rows.vectors(keys)

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        if not len(self):
            return nothing(len(queries), k)
        use_threads(self._threads)
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            return self._scan(queries, k, self.rows.blocks())
        if len(allowed) * WIDE_SHARE >= len(self):
            found = self._widen(queries, k, allowed)
            if found is not None:
                return found
        return self._scan(queries, k, self._gathered(allowed))

    def present(self, keys: Keys) -> Keys:
        return self.rows.present(keys)

    def frozen(self, changed: set[int]) -> Sequence[Block]:
        """Copies the keys, not the vectors."""
        self.rows.changed = changed
        return [Block(block.keys.copy(), block.vectors) for block in self.rows.blocks()]

    def stale(self) -> bool:
        return False

    def rebuild(self) -> Rebuild:
        return NothingToRebuild()

    def _scan(self, queries: Vectors, k: int, blocks: Iterable[Block]) -> Nearest:
        parts = [self._nearest_in(block, queries, k) for block in blocks]
        return merged(parts, k) if parts else nothing(len(queries), k)

    def _nearest_in(self, block: Block, queries: Vectors, k: int) -> Nearest:
        found = self._batch_scan(block, queries, k) if self._batch_scan else None
        return _nearest_by_faiss(block, queries, k) if found is None else found

    def _widen(self, queries: Vectors, k: int, allowed: Keys) -> Nearest | None:
        """More than k of all, and of these the allowed; None where they are too few."""
        wide = min(len(self), 4 * k * max(1, len(self) // len(allowed)))
        found = self._scan(queries, wide, self.rows.blocks())
        passes = np.isin(found.keys, allowed)
        if wide < len(self) and (passes.sum(axis=1) < k).any():
            return None
        scores = np.where(passes, found.scores, -np.inf)
        return nearest_of(scores, np.where(passes, found.keys, NO_KEY), k)

    def _gathered(self, allowed: Keys) -> Iterable[Block]:
        keys = self.rows.present(allowed)
        for first in range(0, len(keys), GATHER_ROWS):
            some = keys[first : first + GATHER_ROWS]
            yield Block(some, self.rows.vectors(some))


def _nearest_by_faiss(block: Block, queries: Vectors, k: int) -> Nearest:
    """Exactly, by FAISS's brute force over an array."""
    k_found = min(k, len(block.keys))
    scores, rows = faiss.knn(
        _whole_tiles(queries), block.vectors, k_found, metric=faiss.METRIC_INNER_PRODUCT
    )
    return nearest_of(scores[: len(queries)], block.keys[rows[: len(queries)]], k)


def _whole_tiles(queries: Vectors) -> Vectors:
    """With rows of zeros to a multiple of what BLAS multiplies at once: 31 queries take a sixth
    longer than 32."""
    is_multiplied = queries.size >= faiss.cvar.distance_compute_blas_threshold
    missing = -len(queries) % TILE if is_multiplied else 0
    return np.pad(queries, ((0, missing), (0, 0))) if missing else queries


class AppendOnlyIndex:
    """Over an index that can only add and search, as FAISS's flat GPU index: a deleted row is
    skipped in the results, and goes when there are many. Never two threads at once."""

    def __init__(self, flat: faiss.Index) -> None:
        self._flat = flat
        self._row_of: dict[int, int] = {}
        self._keys = np.zeros(0, np.int64)  # by row; NO_KEY where deleted

    @property
    def dim(self) -> int:
        return int(self._flat.d)

    def __len__(self) -> int:
        return len(self._row_of)

    def add(self, keys: Keys, vectors: Vectors) -> None:
        keys, vectors = last_of_each(keys, vectors)
        self.remove(keys)
        first = len(self._keys)
        self._flat.add(np.ascontiguousarray(vectors, np.float32))
        self._keys = np.concatenate([self._keys, keys])
        self._row_of.update((key, first + n) for n, key in enumerate(keys.tolist()))

    def remove(self, keys: Keys) -> None:
        rows = [self._row_of.pop(key) for key in set(keys.tolist()) if key in self._row_of]
        self._keys[rows] = NO_KEY
        if len(self._keys) - len(self) >= REBUILD_AT:
            self._compact()

    def _compact(self) -> None:
        keys = np.fromiter(self._row_of, np.int64)
        vectors = self.vectors(keys)
        self._flat.reset()
        self._flat.add(vectors)
        self._keys = keys
        self._row_of = {key: row for row, key in enumerate(keys.tolist())}

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        queries = np.ascontiguousarray(queries, np.float32)
        if allowed is None:
            deleted = len(self._keys) - len(self)
            return self._widest(queries, min(k + deleted, GPU_MAX_K), k)
        if len(allowed) * WIDE_SHARE >= len(self) > 0:
            found = self._widest(queries, GPU_MAX_K, GPU_MAX_K)
            passes = np.isin(found.keys, allowed)
            if len(self._keys) <= GPU_MAX_K or (passes.sum(axis=1) >= k).all():
                scores = np.where(passes, found.scores, -np.inf)
                return nearest_of(scores, np.where(passes, found.keys, NO_KEY), k)
        return self._search_among(queries, k, allowed)

    def _widest(self, queries: Vectors, wide: int, k: int) -> Nearest:
        wide = min(wide, len(self._keys))
        if wide == 0:
            return nothing(len(queries), k)
        scores, rows = self._flat.search(queries, wide)
        keys = np.where(rows < 0, NO_KEY, self._keys[rows])
        return nearest_of(np.where(keys == NO_KEY, -np.inf, scores), keys, k)

    def present(self, keys: Keys) -> Keys:
        return np.array(sorted(self._row_of.keys() & set(keys.tolist())), np.int64)

    def frozen(self, changed: set[int]) -> Sequence[Block]:  # noqa: ARG002 — none is torn
        """A copy, since only the owner may read."""
        keys = np.fromiter(self._row_of, np.int64, len(self))
        return [Block(keys, self.vectors(keys))]

    def stale(self) -> bool:
        return False

    def rebuild(self) -> Rebuild:
        return NothingToRebuild()

    def _search_among(self, queries: Vectors, k: int, allowed: Keys) -> Nearest:
        keys = self.present(allowed)
        return nearest_of(queries @ self.vectors(keys).T, keys, k)

    def vectors(self, keys: Keys) -> Vectors:
        rows = np.array([self._row_of[key] for key in keys.tolist()], np.int64)
        if not len(rows):
            return np.zeros((0, self.dim), np.float32)
        return np.asarray(self._flat.reconstruct_batch(rows), np.float32)


def gpu_flat(dim: int) -> AppendOnlyIndex:
    """Exact on the first GPU, in half precision: half the bytes to read are half the time."""
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    return AppendOnlyIndex(faiss.GpuIndexFlatIP(gpu_resources(), dim, config))


def gpu_resources() -> faiss.StandardGpuResources:
    """One for all indexes: each reserves its own scratch memory."""
    global _resources
    if _resources is None:
        _resources = faiss.StandardGpuResources()
    return _resources


_resources: faiss.StandardGpuResources | None = None
