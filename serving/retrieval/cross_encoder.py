"""A cross-encoder in this process, from a folder or by its Hugging Face name.

Imports torch and transformers, and is itself imported only where the settings name a model. One
thread of its own does the work: a search whose time is over is not waited for, and those behind
it give up while they still wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from serving.errors import RetrievalFailed
from serving.retrieval.torch_threads import use_threads

MAX_TOKENS = 512
BATCH = 16


class CrossEncoder:
    """Scores are the model's one logit through a sigmoid, in (0, 1) (Nogueira and Cho,
    arXiv 1901.04085)."""

    def __init__(self, name: str, threads: int = 1) -> None:
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            self._model = AutoModelForSequenceClassification.from_pretrained(
                name, dtype=torch.float32
            ).eval()
        except (OSError, ValueError) as error:
            raise RetrievalFailed(f"retrieval.reranker: '{name}' cannot be loaded.") from error
        if self._model.config.num_labels != 1:
            raise RetrievalFailed(
                f"retrieval.reranker: '{name}' has {self._model.config.num_labels} outputs; "
                "a reranker has one."
            )
        longest = getattr(self._model.config, "max_position_embeddings", MAX_TOKENS)
        self._max_tokens = min(MAX_TOKENS, longest)
        self._thread = ThreadPoolExecutor(
            1, "engram-reranker", initializer=use_threads, initargs=(threads,)
        )

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._score, query, list(texts))
        except RuntimeError as error:
            raise RetrievalFailed(f"The reranker failed ({type(error).__name__}).") from error

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _score(self, query: str, texts: list[str]) -> list[float]:
        by_length = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # little padding
        scores = [0.0] * len(texts)
        for first in range(0, len(texts), BATCH):
            batch = by_length[first : first + BATCH]
            logits = self._logits(query, [texts[n] for n in batch])
            for n, score in zip(batch, torch.sigmoid(logits).tolist(), strict=True):
                scores[n] = score
        return scores

    def _logits(self, query: str, texts: list[str]) -> torch.Tensor:
        tokens = self._tokenizer(
            [query] * len(texts),
            texts,
            padding=True,
            truncation="longest_first",
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits: torch.Tensor = self._model(**tokens).logits[:, 0]
        return logits
