"""The vector index by itself: recall, time and memory of each kind, and rebuilding."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil

from loadtests.retrieval_data import Corpus
from loadtests.statistics import Estimate, estimate
from serving.retrieval.embedder import Vectors
from serving.retrieval.faiss_trained import Breadth, train_hnsw, train_ivf
from serving.retrieval.index import Keys, Kind
from serving.retrieval.index_kinds import cpu_flat, create_index
from serving.retrieval.segmented_index import SegmentedIndex
from serving.retrieval.tantivy_lexical import TantivyLexical
from serving.settings import RetrievalSettings
from serving.types import Passage

Search = Callable[[Vectors], Keys]
K = 10
ASKED = 256
BATCH = 32
IVF_BREADTHS = (16, 32, 64, 128)
HNSW_BREADTHS = (32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Point:
    """One kind at one breadth, on one thread."""

    kind: Kind
    breadth: int  # 0 for flat
    recall: float  # at 10, against exact search
    one_ms: Estimate  # CPU of a search alone
    batched_ms: Estimate  # and in a batch of 32


@dataclass(frozen=True, slots=True)
class Built:
    kind: Kind
    seconds: float
    cpu_s: float
    bytes_per_chunk: float


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """From flat to HNSW in the background, while the owner goes on."""

    begin_ms: float
    run_s: float
    swap_ms: float


@dataclass(frozen=True, slots=True)
class Parts:
    """Resident bytes per chunk of what a retriever holds, each built in a fresh process."""

    vectors: float
    words: float
    passages: float


def points(corpus: Corpus, repeats: int) -> tuple[list[Built], list[Point]]:
    """Every kind over the same vectors, asked the same questions."""
    vectors, asked = corpus.vectors(), corpus.questions(ASKED)
    keys = np.arange(len(vectors))
    flat = cpu_flat(corpus.dim, threads=1)
    built = [_timed("flat", corpus.chunks, lambda: flat.add(keys, vectors))]
    truth = flat.search(asked, K).keys
    found = [_point("flat", 0, lambda q: flat.search(q, K).keys, asked, truth, repeats)]
    for kind, breadths in (("ivf", IVF_BREADTHS), ("hnsw", HNSW_BREADTHS)):
        made = _Made(kind, vectors)
        built.append(_timed(made.kind, corpus.chunks, made.train))
        for breadth in breadths:
            search = made.search(breadth)
            found.append(_point(made.kind, breadth, search, asked, truth, repeats))
    return built, found


class _Made:
    """A trained index that can be asked at several breadths."""

    def __init__(self, kind: str, vectors: Vectors) -> None:
        self.kind: Kind = "ivf" if kind == "ivf" else "hnsw"
        self._vectors = vectors

    def train(self) -> None:
        make = train_ivf if self.kind == "ivf" else train_hnsw
        self._trained = make(self._vectors, Breadth(), 1)

    def search(self, breadth: int) -> Search:
        trained = self._trained.at(Breadth(breadth, breadth))
        return lambda queries: trained.search(queries, K, None).keys


def _point(
    kind: Kind,
    breadth: int,
    search: Search,
    asked: Vectors,
    truth: Keys,
    repeats: int,
) -> Point:
    found = search(asked)
    recall = np.mean([np.isin(f, t).mean() for f, t in zip(found, truth, strict=True)])
    one = [search_ms(search, asked[n : n + 1]) for n in range(8 * repeats)]
    batch = [search_ms(search, asked[:BATCH]) for _ in range(repeats)]
    return Point(kind, breadth, float(recall), estimate(one), estimate(batch))


def _timed(kind: Kind, chunks: int, build: Callable[[], None]) -> Built:
    before, cpu, began = _rss(), time.process_time(), time.perf_counter()
    build()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return Built(kind, seconds, cpu_s, (_rss() - before) / chunks)


def rebuilt(corpus: Corpus) -> Rebuilt:
    """With a tenth of the chunks deleted and a tenth added while it runs."""
    index = create_index(corpus.dim, RetrievalSettings(index="hnsw"))
    assert isinstance(index, SegmentedIndex)
    vectors = corpus.vectors()
    tenth = corpus.chunks // 10
    index.add(np.arange(corpus.chunks), vectors)
    began = time.perf_counter()
    rebuild = index.rebuild()
    began_ms = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    rebuild.run()
    run_s = time.perf_counter() - began
    index.remove(np.arange(tenth))
    index.add(np.arange(tenth) + corpus.chunks, vectors[:tenth])
    waits = []
    left = True
    while left:
        began = time.perf_counter()
        left = rebuild.catch_up()
        waits.append((time.perf_counter() - began) * 1e3)
    began = time.perf_counter()
    rebuild.swap()
    return Rebuilt(began_ms, run_s, max(*waits, (time.perf_counter() - began) * 1e3))


def parts(corpus: Corpus) -> Parts:
    measures = (_vector_bytes, _word_bytes, _passage_bytes)
    spawn = multiprocessing.get_context("spawn")
    found = []
    for measure in measures:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            found.append(pool.submit(measure, corpus).result())
    return Parts(*found)


def _vector_bytes(corpus: Corpus) -> float:
    vectors = corpus.vectors()
    index = create_index(corpus.dim, RetrievalSettings(index="flat"))
    return _grown(lambda: index.add(np.arange(len(vectors)), vectors), corpus, index)


def _word_bytes(corpus: Corpus) -> float:
    texts, lexical = corpus.texts(), TantivyLexical()

    def build() -> None:
        for first in range(0, len(texts), 2_000):
            lexical.add(dict(enumerate(texts[first : first + 2_000], first)))

    return _grown(build, corpus, lexical)


def _passage_bytes(corpus: Corpus) -> float:
    texts = corpus.texts()
    passages: dict[int, Passage] = {}

    def build() -> None:
        for n, text in enumerate(texts):
            name = f"file-{n // 100}"
            copy = text.encode().decode()  # as it comes from SQL
            passages[n] = Passage(f"{name}-{n}", copy, name, name, name, (name,), 0, len(text))

    return _grown(build, corpus, passages)


def _grown(build: Callable[[], None], corpus: Corpus, kept: object) -> float:
    gc.collect()
    before = _rss()
    build()
    gc.collect()
    assert kept is not None
    return (_rss() - before) / corpus.chunks


def search_ms(
    search: Search, queries: Vectors, clock: Callable[[], float] = time.thread_time
) -> float:
    """Of one search among those asked together; on one CPU thread by its own clock, which does not
    run while others do."""
    began = clock()
    search(queries)
    return (clock() - began) * 1e3 / len(queries)


def _rss() -> float:
    return float(psutil.Process().memory_info().rss)
