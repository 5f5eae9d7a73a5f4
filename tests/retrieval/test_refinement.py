"""One search after the batch: weights, thresholds, reranking and what happens when that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from serving import telemetry
from serving.errors import RetrievalFailed
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.fusion import Weights
from serving.retrieval.hybrid import Job, Place, Ranked, rank
from serving.retrieval.index import ExactIndex
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import Reranker, WordReranker
from serving.retrieval.shelf import Shelf
from serving.types import Passage, Search, TenantId

TEXTS = ("leave leave leave leave", "days of annual leave are thirty", "canteen opens at noon")
SEARCH = Search(TenantId("t"), "thirty days of annual leave", (), 2, rerank=True)


class Failing:
    """A reranker that is gone."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        raise RetrievalFailed(f"no scores of {len(texts)} texts for {len(query)} characters")

    async def close(self) -> None: ...


class Endless(Failing):
    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        await asyncio.Event().wait()
        return []


def shelf(*texts: str) -> Shelf:
    made = Shelf(ExactIndex(HashingEmbedder().dim), ExactLexical())
    passages = {n: Passage(str(n), text, "f.md") for n, text in enumerate(texts)}
    made.add_words(passages)
    made.add(passages, HashingEmbedder().embed(texts))
    return made


def ranked(query: str = SEARCH.query, weights: Weights | None = None, **job: Any) -> Ranked:
    place = Place(shelf(*TEXTS), weights=weights or Weights())
    [one] = rank([Job(query, 10, (place,), **job)], HashingEmbedder(), 20)
    return one


def texts_of(one: Ranked) -> list[str]:
    return [hit.passage.text for hit in one.hits]


def count(result: str) -> float:
    return telemetry.RERANKED.labels(result)._value.get()  # type: ignore[no-any-return]


def test_a_passage_carries_both_raw_scores() -> None:
    best = ranked().hits[0].passage
    assert best.text == TEXTS[1]
    [bm25] = shelf(*TEXTS).lexical.search(SEARCH.query, 1).values()
    assert best.bm25 == pytest.approx(bm25)
    assert 0 < best.dense_score <= 1


def test_weights_choose_between_the_rankings() -> None:
    words_alone = ranked("canteen", Weights(0.0, 1.0))
    assert texts_of(words_alone) == [TEXTS[2]]
    meaning_alone = ranked("canteen", Weights(1.0, 0.0))
    cosines = [hit.passage.dense_score for hit in meaning_alone.hits]
    assert len(cosines) == len(TEXTS) and cosines == sorted(cosines, reverse=True)


def test_passages_below_the_threshold_do_not_take_a_place() -> None:
    scores = [hit.passage.score for hit in ranked().hits]
    above = ranked(score_threshold=sorted(scores)[1])
    assert sorted(hit.passage.score for hit in above.hits) == sorted(scores)[1:]
    assert ranked(score_threshold=1.01).hits == ()


async def test_the_reranker_orders_what_it_reads_and_leaves_the_rest_behind() -> None:
    one, reranker = ranked(), WordReranker()
    backwards = replace(one, hits=one.hits[::-1])
    found = await Refiner(reranker).refine(backwards, SEARCH)
    assert found.passages[0].text == TEXTS[1]
    assert found.passages[0].rerank_score == max(await reranker.scores(SEARCH.query, TEXTS))
    assert "rerank" in found.timings_ms
    reads_two = await Refiner(reranker, candidates=2).refine(backwards, replace(SEARCH, limit=3))
    assert reads_two.passages[2].text == texts_of(backwards)[2]
    assert reads_two.passages[2].rerank_score is None


@pytest.mark.parametrize(("broken", "result"), [(Failing(), "failed"), (Endless(), "timeout")])
async def test_a_reranker_that_fails_or_dawdles_costs_only_its_order(
    broken: Reranker, result: str
) -> None:
    before, one = count(result), ranked()
    found = await Refiner(broken, timeout_s=0.01).refine(one, SEARCH)
    assert [passage.text for passage in found.passages] == texts_of(one)[: SEARCH.limit]
    assert all(passage.rerank_score is None for passage in found.passages)
    assert count(result) == before + 1


async def test_a_single_hit_gets_a_score_to_be_merged_by() -> None:
    one = ranked()
    found = await Refiner(WordReranker()).refine(replace(one, hits=one.hits[:1]), SEARCH)
    assert found.passages[0].rerank_score is not None


async def test_without_being_asked_nothing_is_reranked() -> None:
    one = ranked()
    for refiner, search in (
        (Refiner(Failing()), replace(SEARCH, rerank=False)),
        (Refiner(), SEARCH),
    ):
        found = await refiner.refine(one, search)
        assert [passage.text for passage in found.passages] == texts_of(one)[: search.limit]
        assert "rerank" not in found.timings_ms


def test_a_search_ranks_as_deep_as_what_follows_needs() -> None:
    plain = replace(SEARCH, rerank=False)
    assert Refiner(WordReranker(), candidates=20).depth(SEARCH) == 20
    assert Refiner(candidates=20).depth(SEARCH) == SEARCH.limit
    assert Refiner().depth(replace(plain, expand_tokens=100)) > plain.limit
