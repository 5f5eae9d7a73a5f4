"""Which kind of index suits how many chunks, and how each is made.

The measurements behind the rule are in docs/decisions/0013.
"""

from __future__ import annotations

from typing import Literal

from serving.retrieval.bfloat import multiplies_bfloat
from serving.retrieval.embedder import Vectors
from serving.retrieval.faiss_index import FlatIndex, gpu_flat, has_gpu
from serving.retrieval.faiss_trained import (
    Breadth,
    train_cagra,
    train_gpu_ivf,
    train_hnsw,
    train_ivf,
)
from serving.retrieval.index import Index, Kind
from serving.retrieval.segmented_index import Flat, SegmentedIndex, Trained
from serving.settings import RetrievalSettings

Device = Literal["cpu", "gpu"]

# An exact search reads every vector once: 4 bytes a number at about 28 GB/s of one CPU core, 2 at
# 4 TB/s of a large GPU. At these limits it takes about 14 ms, or 4 ms.
FLAT_VALUES_CPU = 100_000_000  # 260,000 chunks of 384 numbers
FLAT_VALUES_GPU = 8_000_000_000  # 10 million chunks of 768 numbers
FEWEST_ROWS = 1_000  # a trained index of fewer is never faster


def choose_kind(count: int, dim: int, device: Device, wanted: str = "auto") -> Kind:
    """Exact while one search reads little enough, then HNSW on CPU and IVF on GPU.

    `wanted` is the setting `retrieval.index`; what it names is taken whatever the size, except that
    `hnsw` on GPU is IVF.
    """
    if wanted == "flat" or count < FEWEST_ROWS:
        return "flat"
    if wanted == "auto":
        limit = FLAT_VALUES_CPU if device == "cpu" else FLAT_VALUES_GPU
        if count * dim <= limit:
            return "flat"
        return "hnsw" if device == "cpu" else "ivf"
    if device == "gpu":
        return "cagra" if wanted == "cagra" else "ivf"
    return "hnsw" if wanted in ("hnsw", "cagra") else "ivf"


def cpu_flat(dim: int, threads: int) -> FlatIndex:
    """Batches go by way of bfloat16 where the processor multiplies it."""
    if not multiplies_bfloat():
        return FlatIndex(dim, threads)
    from serving.retrieval.bfloat_scan import batch_scan  # PyTorch takes seconds to import

    return FlatIndex(dim, threads, batch_scan(threads))


def create_index(dim: int, settings: RetrievalSettings) -> Index:
    """An empty one, on the first GPU if FAISS was built for one and finds it, else on CPU."""
    device: Device = "gpu" if has_gpu() else "cpu"
    breadth = Breadth(settings.nprobe, settings.ef)

    def flat() -> Flat:
        return gpu_flat(dim) if device == "gpu" else cpu_flat(dim, settings.threads)

    def choose(count: int) -> Kind:
        return choose_kind(count, dim, device, settings.index)

    def train(kind: Kind, vectors: Vectors) -> Trained:
        if device == "gpu":
            return train_cagra(vectors) if kind == "cagra" else train_gpu_ivf(vectors, breadth)
        if kind == "hnsw":
            return train_hnsw(vectors, breadth, settings.threads)
        return train_ivf(vectors, breadth, settings.threads)

    return SegmentedIndex(flat, choose, train)
