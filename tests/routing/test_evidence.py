"""What the gatherer asks of the retriever."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.retrieval.embedder import HashingEmbedder
from serving.routing.affinity import Affinity
from serving.routing.evidence import EvidenceGatherer
from serving.types import (
    AdapterId,
    Assistant,
    Found,
    Options,
    Passage,
    Question,
    Search,
    TenantId,
    VectorStoreId,
)

PASSAGE = Passage("1", "Thirty days.", "leave.md", score=0.9)
ASSISTANT = Assistant("acme", TenantId("acme"), vector_stores=(VectorStoreId("vs_1"),))


class Listening:
    """A retriever of which only what is asked of it matters."""

    def __init__(self) -> None:
        self.searches: list[Search] = []

    async def search(self, search: Search) -> Found:
        self.searches.append(search)
        return Found((PASSAGE,))

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [[float(x) for x in vector] for vector in HashingEmbedder().embed(texts)]

    async def refresh(self) -> int:
        return 0

    async def ready(self) -> bool:
        return True

    async def samples(self, tenant: TenantId, adapter: AdapterId) -> Sequence[str]:
        return ()


@pytest.mark.parametrize(("asked", "searched"), [(0.4, 0.4), (None, 0.0)])
async def test_the_threshold_is_the_searchs_so_that_what_is_below_takes_no_place(
    asked: float | None, searched: float
) -> None:
    retriever = Listening()
    gatherer = EvidenceGatherer(retriever, Affinity(retriever, retriever))
    message = {"role": "user", "content": "How many days of leave?"}
    question = Question("q", "acme", (message,), {}, Options(score_threshold=asked))
    evidence = await gatherer.gather(ASSISTANT, question)
    assert [search.score_threshold for search in retriever.searches] == [searched]
    assert evidence.passages == (PASSAGE,)
