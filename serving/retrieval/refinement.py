"""What happens to one search's hits after the batch: reranked, grown to sections, cut to length.

Off the owner thread, so that nobody waits for somebody else's reranker. A reranker that fails or
takes too long costs its order, not the search.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from serving import telemetry
from serving.errors import RetrievalFailed
from serving.retrieval.chunker import searchable
from serving.retrieval.expansion import expand
from serving.retrieval.hybrid import Ranked, RankedHit
from serving.retrieval.reranker import Reranker
from serving.types import Found, Search

log = logging.getLogger(__name__)
Present = Callable[[tuple[RankedHit, ...]], Awaitable[tuple[RankedHit, ...]]]
MORE = 2  # hits ranked per passage wanted where some will be taken in by others


@dataclass(frozen=True, slots=True)
class Refiner:
    """`candidates` hits at most are reranked, within `timeout_s`."""

    reranker: Reranker | None = None
    candidates: int = 20
    timeout_s: float = 1.0

    def depth(self, search: Search) -> int:
        """How many hits `refine` wants of a search."""
        depth = search.limit * (MORE if search.expand_tokens else 1)
        return max(depth, self.candidates) if self._reranks(search) else depth

    async def refine(self, ranked: Ranked, search: Search, present: Present | None = None) -> Found:
        """`present` leaves out what was deleted; it is asked where time has passed."""
        hits, timings_ms = ranked.hits, dict(ranked.timings_ms)
        if self._reranks(search) and hits:  # one alone too: it may be one shard's among others
            began = perf_counter()
            hits = await self._reranked(search.query, hits)
            hits = hits if present is None else await present(hits)
            timings_ms["rerank"] = (perf_counter() - began) * 1000
        passages = expand(hits, search.limit, search.expand_tokens)
        return Found(tuple(passages), ranked.query_embedding, timings_ms)

    def _reranks(self, search: Search) -> bool:
        return search.rerank and self.reranker is not None

    async def _reranked(self, query: str, hits: Sequence[RankedHit]) -> tuple[RankedHit, ...]:
        """The first `candidates` in the reranker's order, then the others in theirs."""
        assert self.reranker is not None
        first, rest = hits[: self.candidates], hits[self.candidates :]
        texts = [searchable(hit.passage.heading_path, hit.passage.text) for hit in first]
        try:
            async with asyncio.timeout(self.timeout_s):
                scores = await self.reranker.scores(query, texts)
        except (RetrievalFailed, TimeoutError) as error:
            result = "timeout" if isinstance(error, TimeoutError) else "failed"
            telemetry.RERANKED.labels(result).inc()
            log.warning("reranking %s; the fused order stands", result)
            return tuple(hits)
        telemetry.RERANKED.labels("ok").inc()
        scored = [
            replace(hit, passage=replace(hit.passage, rerank_score=score))
            for hit, score in zip(first, scores, strict=True)
        ]
        best_first = sorted(scored, key=lambda hit: -(hit.passage.rerank_score or 0.0))
        return (*best_first, *rest)
