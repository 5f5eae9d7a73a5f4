"""`/v1/vector_stores/{store_id}/search`: passages for one query or several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from serving.admission import Admission
from serving.api.bodies import read_body
from serving.api.listing import parts
from serving.api.request import caller_of
from serving.api.search_body import SearchStore
from serving.api.vector_stores import STORE
from serving.retrieval.retriever import Retriever
from serving.store.vector_stores import VectorStores
from serving.types import Found, Passage, Search, TenantId, VectorStoreId


class SearchApi:
    """`rewrite` makes a search query of a question."""

    def __init__(
        self,
        stores: VectorStores,
        retriever: Retriever,
        rewrite: Callable[[str], str],
        admission: Admission,
        max_body_bytes: int,
    ) -> None:
        self._stores = stores
        self._retriever = retriever
        self._rewrite = rewrite
        self._admission = admission
        self._max_body_bytes = max_body_bytes

    def register(self, app: FastAPI) -> None:
        app.add_api_route(STORE + "/search", self.search, methods=["POST"])

    async def search(self, request: Request, store_id: VectorStoreId) -> Response:
        body = await read_body(request, self._max_body_bytes, SearchStore)
        caller = caller_of(request)
        await run_in_threadpool(self._stores.check_usable, caller.tenant, store_id)
        queries = [*map(self._rewrite, body.query)] if body.rewrite_query else body.query
        async with self._admission.admit(caller):
            found = await asyncio.gather(
                *(
                    self._retriever.search(_search(caller.tenant, store_id, query, body))
                    for query in queries
                )
            )
        hits = merged(found, body.max_num_results)
        return parts(
            "vector_store.search_results.page", [*map(hit_body, hits)], search_query=queries
        )


def _search(tenant: TenantId, store_id: VectorStoreId, query: str, body: SearchStore) -> Search:
    ranking = body.ranking_options
    return Search(
        tenant,
        query,
        (store_id,),
        body.max_num_results,
        filters=body.filters,
        consistent=body.engram.consistent,
        weights=ranking.weights,
        score_threshold=ranking.score_threshold,
        rerank=ranking.ranker != "none",
    )


def merged(found: Sequence[Found], limit: int) -> list[Passage]:
    """Every query's best first, then every query's second best; a passage only once."""
    best: dict[str, tuple[int, float, Passage]] = {}
    for one in found:
        for rank, passage in enumerate(one.passages):
            place = (rank, -passage.score, passage)
            best[passage.id] = min(place, best.get(passage.id, place), key=lambda p: p[:2])
    return [passage for _, _, passage in sorted(best.values(), key=lambda p: p[:2])][:limit]


def hit_body(passage: Passage) -> dict[str, Any]:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": round(passage.score, 4),
        "attributes": dict(passage.attributes),
        "content": [{"type": "text", "text": passage.text}],
        "engram": {
            "heading": passage.label,
            "start": passage.start,
            "end": passage.end,
            "dense_score": round(passage.dense_score, 4),
            "lexical_score": round(passage.lexical_score, 4),
        },
    }
