"""The seam to a reranker, which reads question and passage together: slower and surer than both
rankings.

`cross_encoder.py` is the real one in process, `ScoreEndpoint` one behind vLLM's `/score`, and
`WordReranker` the exact small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import httpx

from serving.errors import RetrievalFailed
from serving.retrieval.lexical import words
from serving.settings import RetrievalSettings

WORDS = "words"


class Reranker(Protocol):
    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """One per text, in order; the higher the better. Of one text it does not depend on the
        others.

        Raises:
            RetrievalFailed: the model or its server failed.
        """
        ...

    async def close(self) -> None:
        """Frees what it holds; afterwards it is not used."""
        ...


def create_reranker(settings: RetrievalSettings) -> Reranker | None:
    """The one that the settings name; the heavy import happens only for a model in process."""
    name = settings.reranker
    if not name:
        return None
    if name == WORDS:
        return WordReranker()
    if name.startswith(("http://", "https://")):
        return ScoreEndpoint(name)
    from serving.retrieval.cross_encoder import CrossEncoder

    return CrossEncoder(name, settings.threads)


class WordReranker:
    """The share of the question's words that a text has, and of its pairs of neighbours."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [_share(words(query), words(text)) for text in texts]

    async def close(self) -> None:
        pass


def _share(asked: Sequence[str], said: Sequence[str]) -> float:
    both = set(asked) | set(pairwise(asked))
    found = both & (set(said) | set(pairwise(said)))
    return len(found) / len(both) if both else 0.0


class ScoreEndpoint:
    """A reranker served by vLLM; `url` is that of its `/score`."""

    def __init__(self, url: str, client: httpx.AsyncClient | None = None) -> None:
        self._url = url
        self._client = client or httpx.AsyncClient(trust_env=False)

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        body = {"text_1": query, "text_2": list(texts)}
        try:
            response = await self._client.post(self._url, json=body)
            response.raise_for_status()
            rows = sorted(response.json()["data"], key=lambda row: int(row["index"]))
            scores = [float(row["score"]) for row in rows]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise RetrievalFailed(f"The reranker failed ({type(error).__name__}).") from error
        if len(scores) != len(texts):
            raise RetrievalFailed("The reranker did not score every passage.")
        return scores

    async def close(self) -> None:
        await self._client.aclose()
