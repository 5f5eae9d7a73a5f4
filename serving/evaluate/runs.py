"""The ways `engram evaluate retrieval` runs: labelled passages, a folder, a server's store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress

from serving.evaluate import retrieval, right_file
from serving.evaluate.corpus import Corpus, KeepingEmbedder
from serving.retrieval.local_retriever import create_embedder
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import create_reranker
from serving.settings import RetrievalSettings

UNHURRIED_S = 600.0  # quality is measured here, not the time that a request may take


@dataclass(frozen=True, slots=True)
class Printed:
    as_json: dict[str, Any]
    as_markdown: str


def benchmark(
    passages: Path,
    questions: Path,
    limit: int | None,
    settings: RetrievalSettings,
    cache: Path,
    err: Console,
) -> Printed:
    """Every arm on labelled passages; the one that reranks only where there is a reranker.

    Raises:
        ValueError: a file is not as it should be.
    """
    known = retrieval.read_passages(passages)
    asked = retrieval.read_questions(questions, known)[:limit]
    err.print(f"{len(known)} passages, {len(asked)} questions with relevant ones, last user turn")
    with _corpus(settings, cache, err, len(known)) as corpus:
        corpus.add(known)
        arms = [arm for arm in retrieval.ARMS if settings.reranker or not arm.rerank]
        table = retrieval.measure(corpus, asked, arms)
    return Printed(retrieval.as_json(table), retrieval.as_markdown(table))


def right_files_here(
    folder: Path,
    questions: Path,
    limit: int | None,
    settings: RetrievalSettings,
    cache: Path,
    err: Console,
) -> Printed:
    """Reads, cuts and indexes the folder, then asks.

    Raises:
        ValueError: a file is not as it should be.
    """
    asked = right_file.read(questions)[:limit]
    skipped: list[str] = []
    passages = list(right_file.passages_of(folder, settings.chunk_tokens, skipped))
    files = len({passage.filename for passage in passages})
    err.print(f"{files} files, {len(passages)} chunks; {len(skipped)} files without text")
    with _corpus(settings, cache, err, len(passages)) as corpus:
        corpus.add(passages)
        verdicts = right_file.judge(asked, right_file.ask_here(corpus))
    return Printed(right_file.as_json(verdicts), right_file.as_markdown(verdicts))


def right_files_there(
    store: str, questions: Path, limit: int | None, url: str, api_key: str
) -> Printed:
    """Asks a running server.

    Raises:
        ValueError: the questions are not as they should be, or there is no such store.
        httpx.HTTPError: the server cannot be reached or refuses.
    """
    asked = right_file.read(questions)[:limit]
    headers = {"authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=right_file.TIMEOUT_S) as client:
        verdicts = right_file.judge(asked, right_file.ask_server(client, store))
    return Printed(right_file.as_json(verdicts), right_file.as_markdown(verdicts))


@contextmanager
def _corpus(settings: RetrievalSettings, cache: Path, err: Console, texts: int) -> Iterator[Corpus]:
    """An empty corpus; embedding shows its progress."""
    refiner = Refiner(create_reranker(settings), settings.rerank_candidates, UNHURRIED_S)
    with Progress(console=err) as progress:
        task = progress.add_task("embedding", total=texts)
        embedder = KeepingEmbedder(
            create_embedder(settings), cache, lambda count: progress.advance(task, count)
        )
        yield Corpus(settings, embedder, refiner)
