"""Gathers what the policy needs to know, with at most one retriever call per request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter

from serving.errors import AdapterNotReady, InvalidRequest, RequestError
from serving.retrieval.retriever import Retriever
from serving.routing.affinity import UNKNOWN, Affinity, Profile, measure
from serving.routing.query import Query, read_query
from serving.routing.rewriter import Rewriter, RuleRewriter
from serving.routing.rollout import stand_ins, sticky_key
from serving.types import (
    AdapterId,
    Assistant,
    Evidence,
    Fallback,
    Found,
    Mode,
    Question,
    Search,
)

NOTHING = Found(())


class EvidenceGatherer:
    def __init__(
        self, retriever: Retriever, affinity: Affinity, rewriter: Rewriter | None = None
    ) -> None:
        self._retriever = retriever
        self._affinity = affinity
        self._rewriter = rewriter or RuleRewriter()

    async def gather(self, assistant: Assistant, question: Question) -> Evidence:
        """Probes retrieval unless the request rules it out, and measures adapter affinity.

        Raises:
            NotFound: a vector store is unknown to the tenant.
            RetrievalFailed: the retriever failed.
        """
        options = question.options
        requested = _requested(assistant, question)
        stores = options.vector_store_ids
        stores = assistant.vector_stores if stores is None else stores
        query = await self._query(assistant, question)
        wanted = requested is None or requested.retrieves
        found, timings = NOTHING, dict[str, float]()
        if wanted and (stores or options.documents or assistant.adapter):
            started = perf_counter()
            found = await self._retriever.search(
                Search(
                    tenant=assistant.tenant,
                    query=query.text,
                    vector_stores=stores,
                    limit=options.max_num_results or assistant.max_num_results,
                    documents=options.documents,
                    filters=options.filters,
                    consistent=options.consistent,
                    weights=options.weights,
                    score_threshold=options.score_threshold or 0.0,
                    expand_tokens=options.expand_tokens,
                    rerank=options.rerank,
                )
            )
            timings = {**found.timings_ms, "retrieval": (perf_counter() - started) * 1000}
        affinity, problem = await self._affinity_of(assistant, question, query, found)
        return Evidence(
            requested=requested,
            query=query.text,
            passages=found.passages,
            vector_stores=stores,
            has_documents=bool(options.documents),
            adapter=assistant.adapter,
            affinity=affinity,
            adapter_problem=problem,
            is_smalltalk=query.is_smalltalk,
            is_follow_up=query.is_follow_up,
            timings_ms=_rounded(timings),
        )

    async def _query(self, assistant: Assistant, question: Question) -> Query:
        if question.completion_prompt is not None:
            text = question.completion_prompt
            return Query(text, text, is_follow_up=False, is_smalltalk=False)
        if not question.options.rewrite_query:
            return read_query(question.messages, rewrite=False)
        return await self._rewriter.read(assistant.tenant, question.messages)

    async def _affinity_of(
        self, assistant: Assistant, question: Question, query: Query, found: Found
    ) -> tuple[float, str]:
        """How near the question is to the adapter, or to one that may stand in for it; and what
        kept the adapter itself from being asked."""
        adapter, requested = assistant.adapter, _requested(assistant, question)
        if requested is not None or adapter is None or not found.query_embedding:
            return 0.0, ""
        try:
            profile = await self._affinity.profile(assistant.tenant, adapter)
        except (AdapterNotReady, RequestError) as error:
            if assistant.adapter_fallback is Fallback.ERROR:
                raise
            problem = error.message
            profile = await self._stand_in(assistant, adapter, sticky_key(question))
        else:
            problem = ""
        return measure(profile, query.asked, found.query_embedding), problem

    async def _stand_in(self, assistant: Assistant, adapter: AdapterId, key: str) -> Profile:
        for version in stand_ins(assistant, adapter, key):
            if version is not None:
                with suppress(AdapterNotReady, RequestError):
                    return await self._affinity.profile(assistant.tenant, version)
        return UNKNOWN


def _requested(assistant: Assistant, question: Question) -> Mode | None:
    """The mode that request or assistant name; a search tool lifts one that only the latter does.

    Raises:
        InvalidRequest: the tool must be used, and the mode that the request names searches nothing.
    """
    options, fixed = question.options, assistant.fixed_mode
    named = options.mode or (fixed if ":" in question.model else None)
    if named is not None or options.search_tool is None:
        if named and not named.retrieves and options.search_tool == "required":
            raise InvalidRequest(
                f"mode '{named}' searches nothing, but the search was required", param="tool_choice"
            )
        return named or fixed
    if fixed is not None and fixed.adapts:
        return Mode.HYBRID
    return Mode.RAG if options.search_tool == "required" or fixed == Mode.RAG else None


def _rounded(timings: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(ms, 3) for stage, ms in timings.items()}
