"""Approximate indexes of FAISS over rows that never change: IVF and HNSW on CPU, IVF and CAGRA on
GPU. `segmented_index.py` makes them changeable.
"""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import Vectors
from serving.retrieval.faiss_index import GPU_MAX_K, gpu_resources, use_threads
from serving.retrieval.index import NO_KEY, Nearest, nearest_of
from serving.retrieval.segmented_index import Mask, Trained

HNSW_LINKS = 32
HNSW_BUILD_BREADTH = 100
KMEANS_ROUNDS = 8
KMEANS_ROWS_PER_LIST = 64
FEWEST_ROWS_PER_LIST = 39  # below this FAISS warns that k-means has too little to go on
MOST_BREADTH = 8  # a filter may widen a search by this, and no more


class Breadth(NamedTuple):
    """How much of an index one search looks at: more finds more, and takes longer."""

    nprobe: int = 128  # of the IVF's lists
    ef: int = 128  # candidates on the way through HNSW


def train_ivf(vectors: Vectors, breadth: Breadth, threads: int) -> OnCpu:
    """Inverted lists around k-means centres (FAISS's IVFFlat)."""
    use_threads(threads)
    rows, dim = vectors.shape
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dim), dim, lists_for(rows), faiss.METRIC_INNER_PRODUCT
    )
    index.cp.spherical = True
    index.cp.niter = KMEANS_ROUNDS
    index.cp.max_points_per_centroid = KMEANS_ROWS_PER_LIST
    index.cp.min_points_per_centroid = 1  # or it warns of a test's few rows
    index.train(vectors)
    index.add(vectors)
    index.make_direct_map(True)  # to read a row back
    return OnCpu(index, breadth, threads)


def train_hnsw(vectors: Vectors, breadth: Breadth, threads: int) -> OnCpu:
    """A navigable small-world graph (Malkov and Yashunin, 2016; FAISS's HNSWFlat)."""
    use_threads(threads)
    index = faiss.IndexHNSWFlat(vectors.shape[1], HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_BUILD_BREADTH
    index.add(vectors)
    return OnCpu(index, breadth, threads)


def train_gpu_ivf(vectors: Vectors, breadth: Breadth) -> Trained:
    """The same lists on the first GPU."""
    rows, dim = vectors.shape
    index = faiss.GpuIndexIVFFlat(gpu_resources(), dim, lists_for(rows), faiss.METRIC_INNER_PRODUCT)
    index.nprobe = breadth.nprobe
    index.train(vectors)
    index.add(vectors)
    return _OnGpu(index, vectors)


def train_cagra(vectors: Vectors) -> Trained:
    """A graph built and searched on the GPU (Ootomo et al., 2023), where FAISS has cuVS.

    Raises:
        RetrievalFailed: this build of FAISS has it not.
    """
    if not hasattr(faiss, "GpuIndexCagra"):
        raise RetrievalFailed(
            "This build of FAISS has no CAGRA (it needs cuVS): set retrieval.index to 'ivf'."
        )
    # By distance: of unit vectors the nearest have the largest product.
    index = faiss.GpuIndexCagra(gpu_resources(), vectors.shape[1], faiss.METRIC_L2)
    index.train(vectors)
    return _OnGpu(index, vectors)


def lists_for(rows: int) -> int:
    """4 √rows, as FAISS's guidelines have it, and no list without rows."""
    return max(1, min(int(4 * rows**0.5), rows // FEWEST_ROWS_PER_LIST))


class OnCpu:
    """Filters inside the search."""

    def __init__(self, index: faiss.Index, breadth: Breadth, threads: int) -> None:
        self._index = index
        self._breadth = breadth
        self._threads = threads

    def at(self, breadth: Breadth) -> OnCpu:
        """The same index, searched otherwise."""
        return OnCpu(self._index, breadth, self._threads)

    def search(self, queries: Vectors, k: int, among: Mask | None) -> Nearest:
        use_threads(self._threads)
        share = 1.0 if among is None else max(float(among.mean()), 1 / MOST_BREADTH)
        scores, rows = self._index.search(
            np.ascontiguousarray(queries, np.float32),
            min(k, self._index.ntotal),
            params=self._parameters(k, share, among),
        )
        return nearest_of(np.where(rows == NO_KEY, -np.inf, scores), rows, k)

    def _parameters(self, k: int, share: float, among: Mask | None) -> faiss.SearchParameters:
        chosen = {} if among is None else {"sel": _selector(among)}
        if isinstance(self._index, faiss.IndexHNSW):
            ef = max(self._breadth.ef, k)
            return faiss.SearchParametersHNSW(efSearch=round(ef / share), **chosen)
        nprobe = min(round(self._breadth.nprobe / share), self._index.nlist)
        return faiss.SearchParametersIVF(nprobe=nprobe, **chosen)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        found = self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return np.asarray(found, np.float32)


class _OnGpu:
    """FAISS filters nothing there: it is asked for more, and the results are filtered. The rows
    stay on the host too, to be read back and to score by."""

    def __init__(self, index: faiss.Index, vectors: Vectors) -> None:
        self._index = index
        self._vectors = vectors

    def search(self, queries: Vectors, k: int, among: Mask | None) -> Nearest:
        queries = np.ascontiguousarray(queries, np.float32)
        share = 1.0 if among is None else max(float(among.mean()), 1 / MOST_BREADTH)
        wide = min(round(2 * k / share) if share < 1 else k, GPU_MAX_K, len(self._vectors))
        _, rows = self._index.search(queries, wide)
        passes = rows >= 0 if among is None else (rows >= 0) & among[rows]
        scores = np.einsum("qd,qkd->qk", queries, self._vectors[rows])
        return nearest_of(np.where(passes, scores, -np.inf), np.where(passes, rows, NO_KEY), k)

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        return self._vectors[rows]


def _selector(among: Mask) -> faiss.IDSelector:
    return faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
