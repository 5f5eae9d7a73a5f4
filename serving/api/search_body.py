"""What a search of a vector store takes in its body, as OpenAI's SDK writes it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serving.api.bodies import Body, Scalar, Weight

MAX_QUERIES = 16
COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")


class HybridSearch(Body):
    embedding_weight: Weight
    text_weight: Weight

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if self.embedding_weight == self.text_weight == 0:
            raise ValueError("one of the weights must be above 0")
        return self


class RankingOptions(Body):
    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    hybrid_search: HybridSearch | None = None

    @property
    def weights(self) -> dict[str, float] | None:
        hybrid = self.hybrid_search
        if hybrid is None:
            return None
        return {"dense": hybrid.embedding_weight, "lexical": hybrid.text_weight}


class SearchExtension(Body):
    """The `engram` field of a search."""

    consistent: bool = False


def _queries(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
        raise ValueError("must be a non-empty string, or a list of such")
    if not 1 <= len(texts) <= MAX_QUERIES:
        raise ValueError(f"must hold 1 to {MAX_QUERIES} queries")
    return texts


def _filters(tree: dict[str, Any]) -> dict[str, Any]:
    """Checks what a search would otherwise take for something else."""
    fields = tree.keys()
    if tree.get("type") in ("and", "or") and "filters" in tree:
        _only(fields, "type", "filters")
        if not isinstance(tree["filters"], list):
            raise ValueError("'filters' of a compound filter is a list")
        for part in tree["filters"]:
            if not isinstance(part, dict):
                raise ValueError("a filter is an object")
            _filters(part)
    elif fields & {"key", "value"} or tree.get("type") in COMPARISONS:
        _only(fields, "type", "key", "value")
        _comparison(tree)
    elif not all(isinstance(value, Scalar) for value in tree.values()):
        raise ValueError("an attribute equals a string, a number or a boolean")
    return tree


def _only(fields: Set[str], *wanted: str) -> None:
    if odd := fields ^ set(wanted):
        raise ValueError(f"a filter of this type has {wanted}; '{min(odd)[:64]}' is amiss")


def _comparison(tree: Mapping[str, Any]) -> None:
    kind, value = tree["type"], tree["value"]
    if kind not in COMPARISONS:
        raise ValueError(f"'type' is one of {COMPARISONS}, 'and' or 'or'")
    if not isinstance(tree["key"], str):
        raise ValueError("'key' is a string")
    values = value if kind in ("in", "nin") else [value]
    if not isinstance(values, list) or not all(isinstance(v, Scalar) for v in values):
        what = "a list of strings or numbers" if kind in ("in", "nin") else "a string or number"
        raise ValueError(f"'value' of '{kind}' is {what}")


Filters = Annotated[dict[str, Any], AfterValidator(_filters)]


class SearchStore(Body):
    query: Annotated[Any, AfterValidator(_queries)]
    filters: Filters | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False
    engram: SearchExtension = SearchExtension()
