"""Passages indexed in this process with the parts that serve: embedder, FAISS, tantivy, fusion."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.retrieval.chunker import searchable
from serving.retrieval.embedder import Embedder, Vectors
from serving.retrieval.fusion import Weights
from serving.retrieval.hybrid import Job, Place, Ranked, rank
from serving.retrieval.index_kinds import create_index
from serving.retrieval.refinement import Refiner
from serving.retrieval.shelf import Shelf, ShelfFile
from serving.retrieval.tantivy_lexical import TantivyLexical
from serving.settings import RetrievalSettings
from serving.types import Passage, Search, TenantId

BATCH = 32
Advance = Callable[[int], None]


class Corpus:
    """Searches as `LocalRetriever` does, without SQL."""

    def __init__(self, settings: RetrievalSettings, embedder: Embedder, refiner: Refiner) -> None:
        self._candidates = settings.candidates
        self._embedder = embedder
        self._refiner = refiner
        self._shelf = Shelf(create_index(embedder.dim, settings), TantivyLexical())

    def add(self, passages: Sequence[Passage]) -> None:
        by_key = dict(enumerate(passages, 1))
        self._shelf.add_words(by_key)
        texts = [searchable(p.heading_path, p.text) for p in passages]
        self._shelf.add(by_key, self._embedder.embed(texts))
        for passage in passages:
            self._shelf.put_file(passage.file_id, ShelfFile(passage.filename))

    def search(
        self,
        queries: Sequence[str],
        limit: int,
        weights: Mapping[str, float] | None = None,
        rerank: bool = False,
    ) -> list[list[Passage]]:
        """The best passages of each query, best first."""
        plain = Search(TenantId(""), "", (), limit, weights=weights, rerank=rerank)
        place = Place(self._shelf, weights=Weights.of(weights))
        depth = self._refiner.depth(plain)
        jobs = [Job(query, depth, (place,)) for query in queries]
        ranked = rank(jobs, self._embedder, self._candidates)
        return asyncio.run(self._refined(queries, ranked, plain))

    async def _refined(
        self, queries: Sequence[str], ranked: Sequence[Ranked], plain: Search
    ) -> list[list[Passage]]:
        return [
            list((await self._refiner.refine(one, _asking(plain, query))).passages)
            for query, one in zip(queries, ranked, strict=True)
        ]


def _asking(plain: Search, query: str) -> Search:
    return Search(plain.tenant, query, (), plain.limit, weights=plain.weights, rerank=plain.rerank)


class KeepingEmbedder:
    """Keeps what it embeds in files named by model and content, so that it is done once."""

    def __init__(self, embedder: Embedder, folder: Path, advance: Advance = lambda _: None) -> None:
        self.name, self.dim = embedder.name, embedder.dim
        self._embedder = embedder
        self._folder = folder
        self._advance = advance

    def embed(self, texts: Sequence[str]) -> Vectors:
        parts = [self._batch(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def _batch(self, texts: Sequence[str]) -> Vectors:
        digest = hashlib.sha256(repr((self.name, list(texts))).encode()).hexdigest()
        file = self._folder / f"{digest[:32]}.npy"
        if file.is_file():
            vectors: Vectors = np.load(file)
        else:
            vectors = self._embedder.embed(texts)
            self._folder.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npy")
            np.save(part, vectors)
            part.replace(file)  # a run that is killed leaves no half of a file
        self._advance(len(texts))
        return vectors
