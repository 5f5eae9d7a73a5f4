"""Chooses the mode: a pure function from evidence to a decision that carries its reason.

Retrieval is probed before, since only what it finds predicts whether it helps (arXiv 2604.07985).
These rules are the cold start; a policy fitted on evaluations replaces `decide` behind the same
signature.
"""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.types import Decision, Evidence, Mode, Policy


def decide(evidence: Evidence, policy: Policy) -> Decision:
    """The mode for one request.

    Raises:
        InvalidRequest: the mode asked for needs an adapter or documents that are not there.
    """
    if evidence.requested is not None:
        _require(evidence.requested, evidence)
        return _decision(
            evidence.requested, f"the request asked for {evidence.requested}", evidence
        )
    mode, reason = _choose(evidence, policy)
    if evidence.adapter_problem and not mode.adapts:
        reason = f"{reason}; {evidence.adapter} cannot be had: {evidence.adapter_problem}"
    return _decision(mode, reason, evidence)


def _require(mode: Mode, evidence: Evidence) -> None:
    if mode.adapts and evidence.adapter is None:
        raise InvalidRequest(
            f"mode '{mode}' needs an adapter and this model has none; use 'base' or 'rag'",
            param="engram.mode",
        )
    if mode.retrieves and not evidence.has_sources:
        raise InvalidRequest(
            f"mode '{mode}' needs documents: name vector_store_ids or send documents",
            param="engram.mode",
        )


def _choose(evidence: Evidence, policy: Policy) -> tuple[Mode, str]:
    score, affinity = evidence.best_score, evidence.affinity
    covered = score >= policy.min_retrieval
    fits = evidence.adapter is not None and affinity >= policy.min_affinity
    near = _compare(affinity, policy.min_affinity)
    adapter = f"{evidence.adapter} was tuned for such requests ({near})"
    documents = f"the best passage covers the question ({_compare(score, policy.min_retrieval)})"
    if evidence.is_smalltalk and not fits:
        return Mode.BASE, "small talk needs neither documents nor an adapter"
    if covered and fits:
        return Mode.HYBRID, f"{documents} and {adapter}"
    if covered:
        return Mode.RAG, documents
    weak = f"no passage covers the question ({_compare(score, policy.min_retrieval)})"
    if fits:
        return Mode.FINE_TUNED, f"{adapter}; {weak}"
    if score >= policy.min_support:
        return Mode.RAG, f"{weak}, but one is near: the answer may only say what passages say"
    return Mode.BASE, f"{weak} and no adapter was tuned for it"


def _compare(value: float, threshold: float) -> str:
    return f"{value:.2f} {'≥' if value >= threshold else '<'} {threshold:.2f}"


def _decision(mode: Mode, reason: str, evidence: Evidence) -> Decision:
    return Decision(
        mode=mode,
        reason=reason,
        adapter=evidence.adapter if mode.adapts else None,
        vector_stores=evidence.vector_stores if mode.retrieves else (),
        query=evidence.query if mode.retrieves else "",
        evidence={
            "requested": evidence.requested,
            "best_score": round(evidence.best_score, 4),
            "margin": round(evidence.margin, 4),
            "affinity": round(evidence.affinity, 4),
            "is_smalltalk": evidence.is_smalltalk,
            "is_follow_up": evidence.is_follow_up,
        },
    )
