"""The policy as a table: evidence in, mode out, with a reason a person can read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving.errors import InvalidRequest
from serving.routing.policy import decide
from serving.types import AdapterId, Evidence, Mode, Passage, Policy, VectorStoreId

POLICY = Policy(min_retrieval=0.5, min_support=0.3, min_affinity=0.8)
ADAPTER = AdapterId("helpdesk@1")
STORES = (VectorStoreId("vs_1"),)


def evidence(score: float = 0.0, affinity: float = 0.0, smalltalk: bool = False) -> Evidence:
    return Evidence(
        requested=None,
        passages=(Passage("c1", "text", "a.md", score=score),) if score else (),
        vector_stores=STORES,
        adapter=ADAPTER,
        affinity=affinity,
        is_smalltalk=smalltalk,
    )


@pytest.mark.parametrize(
    ("seen", "mode"),
    [
        (evidence(0.9, 0.9), Mode.HYBRID),
        (evidence(0.5, 0.8), Mode.HYBRID),
        (evidence(0.9, 0.1), Mode.RAG),
        (evidence(0.49, 0.9), Mode.FINE_TUNED),
        (evidence(0.0, 0.9), Mode.FINE_TUNED),
        (evidence(0.4, 0.1), Mode.RAG),
        (evidence(0.1, 0.1), Mode.BASE),
        (evidence(0.0, 0.0), Mode.BASE),
        (evidence(0.9, 0.1, smalltalk=True), Mode.BASE),
        (evidence(0.9, 0.9, smalltalk=True), Mode.HYBRID),
        (replace(evidence(0.9, 0.9), adapter=None), Mode.RAG),
        (replace(evidence(0.1, 0.9), adapter=None), Mode.BASE),
    ],
)
def test_what_was_found_decides_the_mode(seen: Evidence, mode: Mode) -> None:
    decision = decide(seen, POLICY)
    assert decision.mode is mode
    assert decision.adapter == (ADAPTER if mode.adapts else None)
    assert decision.vector_stores == (STORES if mode.retrieves else ())


@pytest.mark.parametrize("mode", list(Mode))
def test_an_explicit_mode_wins_over_the_evidence(mode: Mode) -> None:
    assert decide(replace(evidence(0.9, 0.9), requested=mode), POLICY).mode is mode


@pytest.mark.parametrize("mode", [Mode.FINE_TUNED, Mode.HYBRID])
def test_a_mode_without_its_adapter_is_refused(mode: Mode) -> None:
    with pytest.raises(InvalidRequest, match="needs an adapter"):
        decide(replace(evidence(), requested=mode, adapter=None), POLICY)


def test_a_mode_without_documents_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="needs documents"):
        decide(replace(evidence(), requested=Mode.RAG, vector_stores=()), POLICY)


def test_the_reason_states_the_scores_and_thresholds() -> None:
    reason = decide(evidence(0.62, 0.2), POLICY).reason
    assert "0.62 ≥ 0.50" in reason
