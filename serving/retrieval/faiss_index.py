"""Exact inner-product search by FAISS, on CPU or GPU. The one module that imports it.

Flat on purpose: up to some millions of chunks exact search is as fast as a graph at high recall,
and adding and deleting stay trivial.
"""

from __future__ import annotations

import faiss
import numpy as np

from serving.retrieval.embedder import Vectors
from serving.retrieval.index import NO_KEY, Index, Keys, Nearest, last_of_each, padded

# FAISS 1.15 turns to BLAS only where queries × dim reach this, by default at no useful batch size
# on few threads; with it a batch of 64 takes a fifth of the time (50,000 × 384, one thread).
BLAS_THRESHOLD_PER_THREAD = 800
GPU_MAX_K = 2048
REBUILD_AT = 1024  # deleted rows


def create_index(dim: int, threads: int) -> Index:
    """On the first GPU if FAISS was built for one and finds it, else on CPU."""
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        flat = faiss.index_cpu_to_gpu(_gpu_resources(), 0, faiss.IndexFlatIP(dim))
        return AppendOnlyFaissIndex(flat)
    return FaissIndex(dim, threads)


class FaissIndex:
    """On CPU: keys kept by FAISS, deletes and filters inside it."""

    def __init__(self, dim: int, threads: int = 1) -> None:
        self._threads = threads
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
        self._keys: set[int] = set()
        faiss.cvar.distance_compute_blas_threshold = BLAS_THRESHOLD_PER_THREAD * threads

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Keys, vectors: Vectors) -> None:
        keys, vectors = last_of_each(keys, vectors)
        self.remove(keys)
        self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), keys)
        self._keys.update(keys.tolist())

    def remove(self, keys: Keys) -> None:
        present = self._keys.intersection(keys.tolist())
        if present:
            self._index.remove_ids(faiss.IDSelectorBatch(np.fromiter(present, np.int64)))
            self._keys -= present

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        k_found = min(k, len(self))
        if k_found == 0:
            return _nothing(len(queries), k)
        faiss.omp_set_num_threads(self._threads)  # kept per calling thread
        parameters = None
        if allowed is not None:
            selector = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
            parameters = faiss.SearchParameters()
            parameters.sel = selector
        scores, found = self._index.search(
            np.ascontiguousarray(queries, np.float32), k_found, params=parameters
        )
        return padded(np.where(found == NO_KEY, -np.inf, scores), found, k)

    def vectors(self, keys: Keys) -> Vectors:
        rows = self._index.reconstruct_batch(np.ascontiguousarray(keys, np.int64))
        return np.asarray(rows, np.float32)


class AppendOnlyFaissIndex:
    """Over an index that can only add and search, as FAISS's flat GPU index: a deleted row is
    skipped in the results, and goes when there are many."""

    def __init__(self, flat: faiss.Index) -> None:
        self._flat = flat
        self._row_of: dict[int, int] = {}
        self._keys = np.zeros(0, np.int64)  # by row; NO_KEY where deleted

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
        rows = [self._row_of.pop(key) for key in keys.tolist() if key in self._row_of]
        self._keys[rows] = NO_KEY
        if len(self._keys) - len(self) >= REBUILD_AT:
            self._rebuild()

    def _rebuild(self) -> None:
        keys = np.fromiter(self._row_of, np.int64)
        vectors = self.vectors(keys)
        self._flat.reset()
        self._flat.add(vectors)
        self._keys = keys
        self._row_of = {key: row for row, key in enumerate(keys.tolist())}

    def search(self, queries: Vectors, k: int, allowed: Keys | None = None) -> Nearest:
        if allowed is not None:
            return self._search_among(queries, k, allowed)
        deleted = len(self._keys) - len(self)
        k_found = min(k + deleted, len(self._keys), GPU_MAX_K)
        if k_found == 0:
            return _nothing(len(queries), k)
        scores, rows = self._flat.search(np.ascontiguousarray(queries, np.float32), k_found)
        keys = np.where(rows < 0, NO_KEY, self._keys[rows])
        live_first = np.argsort(keys == NO_KEY, axis=1, kind="stable")[:, :k]
        keys = np.take_along_axis(keys, live_first, axis=1)
        scores = np.take_along_axis(scores, live_first, axis=1)
        return padded(np.where(keys == NO_KEY, -np.inf, scores), keys, k)

    def _search_among(self, queries: Vectors, k: int, allowed: Keys) -> Nearest:
        keys = np.array([key for key in allowed.tolist() if key in self._row_of], np.int64)
        if not len(keys):
            return _nothing(len(queries), k)
        scores = queries @ self.vectors(keys).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return padded(np.take_along_axis(scores, best, axis=1), keys[best], k)

    def vectors(self, keys: Keys) -> Vectors:
        rows = np.array([self._row_of[key] for key in keys.tolist()], np.int64)
        if not len(rows):
            return np.zeros((0, self._flat.d), np.float32)
        return np.asarray(self._flat.reconstruct_batch(rows), np.float32)


def _gpu_resources() -> faiss.StandardGpuResources:
    """One for all indexes: each reserves its own scratch memory."""
    global _resources
    if _resources is None:
        _resources = faiss.StandardGpuResources()
    return _resources


_resources: faiss.StandardGpuResources | None = None


def _nothing(queries: int, k: int) -> Nearest:
    return padded(np.zeros((queries, 0), np.float32), np.zeros((queries, 0), np.int64), k)
