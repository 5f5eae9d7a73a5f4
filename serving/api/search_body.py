"""What a search of a vector store takes in its body, as OpenAI's SDK writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serving.api.bodies import Body, Weight
from serving.api.filter_body import Filters

MAX_QUERIES = 16


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


class SearchStore(Body):
    query: Annotated[Any, AfterValidator(_queries)]
    filters: Filters | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False
    engram: SearchExtension = SearchExtension()
