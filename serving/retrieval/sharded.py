"""One retriever made of several, each with its part of the vector stores.

Asks the shards that may hold what is wanted and joins their answers. A part that fails fails the
search: an answer from half of the documents would look like a whole one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from time import perf_counter
from typing import Any, TypeVar

from serving.retrieval.merging import merge
from serving.retrieval.retriever import Retriever
from serving.retrieval.shard import shard_of
from serving.types import Found, Search, VectorStoreId

T = TypeVar("T")
Plan = Mapping[int, Sequence[VectorStoreId]]  # which shard is asked for which stores


class ShardedRetriever:
    """Implements `retriever.Retriever` over shard 0, 1, … in this order.

    A store is taken to be whole until its shard answers that it was split; a store is never whole
    again, so what was learnt holds. A shard that is asked for its part of a store before it has
    heard of the split looks into SQL first, so no order of events leaves a part out.

    Args:
        candidates: how many hits each shard takes from each of its indexes.
    """

    def __init__(self, shards: Sequence[Retriever], candidates: int) -> None:
        self._shards = tuple(shards)
        self._candidates = candidates
        self._split: set[VectorStoreId] = set()
        self._turns = count()

    @property
    def parts(self) -> Mapping[str, Retriever]:
        """The shards by the names of their deployments."""
        return {f"retriever-{number}": shard for number, shard in enumerate(self._shards)}

    async def search(self, search: Search) -> Found:
        timings_ms: dict[str, float] = {}
        while True:
            plan = self._plan(search.vector_stores)
            if len(plan) > 1 and not search.query_embedding:
                search = await self._embedded(search, timings_ms)
            answers = await self._ask(search, plan)
            news = {store for found in answers for store in found.split} - self._split
            if not news:
                break
            self._split |= news
            search = replace(search, query_embedding=answers[0].query_embedding)
        if len(answers) == 1:
            return answers[0]
        began = perf_counter()
        found = merge(answers, search, self._candidates)
        timings_ms["merge"] = (perf_counter() - began) * 1000
        return replace(found, timings_ms={**found.timings_ms, **timings_ms})

    async def _embedded(self, search: Search, timings_ms: dict[str, float]) -> Search:
        """With its query's vector, of the next batch of one shard. The model takes longer than a
        call, and would take as long on every shard."""
        found = await self._next().search(Search(search.tenant, search.query, (), 1))
        timings_ms["embed"] = found.timings_ms.get("embed", 0.0)
        return replace(search, query_embedding=found.query_embedding)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._next().embed(texts)

    async def refresh(self) -> int:
        """The smallest `seq` of all shards."""
        return min(await _together(shard.refresh() for shard in self._shards))

    async def ready(self) -> bool:
        return all(await _together(shard.ready() for shard in self._shards))

    def _next(self) -> Retriever:
        return self._shards[next(self._turns) % len(self._shards)]

    def _plan(self, stores: Sequence[VectorStoreId]) -> Plan:
        plan: dict[int, list[VectorStoreId]] = defaultdict(list)
        for store in dict.fromkeys(stores):
            for shard in self._holders(store):
                plan[shard].append(store)
        return plan or {next(self._turns) % len(self._shards): ()}  # somebody embeds the query

    def _holders(self, store: VectorStoreId) -> Sequence[int]:
        shards = len(self._shards)
        return range(shards) if store in self._split else (shard_of(store, shards),)

    async def _ask(self, search: Search, plan: Plan) -> list[Found]:
        """One answer per shard. The inline documents go to one of them, and each may grow its
        hits by an equal part of what all may."""
        [reads_documents, *_] = plan
        deepest = search.limit if len(plan) == 1 else 2 * max(search.limit, self._candidates)

        def part(shard: int) -> Search:
            documents = search.documents if shard == reads_documents else ()
            return replace(
                search,
                vector_stores=tuple(plan[shard]),
                documents=documents,
                limit=deepest,
                expand_tokens=search.expand_tokens // len(plan),
            )

        return await _together(self._shards[shard].search(part(shard)) for shard in plan)


async def _together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error ends the other calls and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
