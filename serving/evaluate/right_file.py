"""Whether a question's right file is on top: of a folder read here, or of a running server's store.

For a company's own documents, where nobody has marked passages but everybody knows the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serving.errors import RequestError
from serving.evaluate.corpus import Corpus
from serving.ingest.cutting import cut
from serving.ingest.strategy import Strategy
from serving.types import Passage

LIMIT = 10
TIMEOUT_S = 60.0
Ask = Callable[[Sequence[str]], list[list[str]]]  # questions to the files found, best first


@dataclass(frozen=True, slots=True)
class Question:
    """`files` are all right; their paths end a stored file's name, or begin with it."""

    text: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rank` of the first right file among the files found, from 1; None if it is not there."""

    question: Question
    found: tuple[str, ...]
    rank: int | None


def read(file: Path) -> list[Question]:
    """Lines of `question` and `file`, a path or a list of them.

    Raises:
        ValueError: names the line and the field that is missing or wrong.
    """
    questions = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{file.name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from None
        text = row.get("question") if isinstance(row, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: 'question' must be a string with text")
        files = row.get("file")
        files = [files] if isinstance(files, str) else files
        if not isinstance(files, list) or not files or not all(isinstance(f, str) for f in files):
            raise ValueError(f"{where}: 'file' must be a path, or a list of them")
        questions.append(Question(text, tuple(files)))
    if not questions:
        raise ValueError(f"{file.name}: there are no questions")
    return questions


def judge(questions: Sequence[Question], ask: Ask) -> list[Verdict]:
    """Asks all, and looks where the right file stands."""
    verdicts = []
    for question, found in zip(questions, ask([q.text for q in questions]), strict=True):
        files = tuple(dict.fromkeys(found))
        ranks = [at for at, file in enumerate(files, 1) if _is_one_of(file, question.files)]
        verdicts.append(Verdict(question, files, ranks[0] if ranks else None))
    return verdicts


def _is_one_of(found: str, right: Sequence[str]) -> bool:
    """A store may hold a path from another folder up or down, or the bare name."""
    return any(
        f"/{found}".endswith(f"/{file}") or f"/{file}".endswith(f"/{found}") for file in right
    )


def passages_of(folder: Path, chunk_tokens: int, skipped: list[str]) -> Iterator[Passage]:
    """The folder's documents cut as ingest cuts them; what cannot be read goes to `skipped`."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        try:
            pieces = list(cut(name, path.read_bytes(), Strategy(chunk_tokens)))
        except RequestError:
            skipped.append(name)
            continue
        for number, piece in enumerate(pieces):
            yield Passage(
                f"{name}-{number}",
                piece.text,
                filename=name,
                file_id=name,
                title=piece.title,
                heading_path=piece.heading_path,
                start=piece.start,
                end=piece.end,
            )


def ask_here(corpus: Corpus) -> Ask:
    return lambda texts: [[p.filename for p in found] for found in corpus.search(texts, LIMIT)]


def ask_server(client: httpx.Client, store: str) -> Ask:
    """Asks the store of that name or id.

    Raises:
        ValueError: the server has no such store.
        httpx.HTTPError: it cannot be reached or refuses.
    """

    def ask(texts: Sequence[str]) -> list[list[str]]:
        path = f"/vector_stores/{_store_id(client, store)}/search"
        return [_files(client, path, text) for text in texts]

    return ask


def _files(client: httpx.Client, path: str, text: str) -> list[str]:
    body = {"query": text, "max_num_results": LIMIT}
    return [hit["filename"] for hit in _json(client.post(path, json=body))["data"]]


def _store_id(client: httpx.Client, store: str) -> str:
    after: dict[str, str] = {}
    while True:
        page = _json(client.get("/vector_stores", params={"limit": 100, **after}))
        for row in page["data"]:
            if store in (row["id"], row["name"]):
                return str(row["id"])
        if not page.get("has_more"):
            raise ValueError(f"there is no vector store '{store}'")
        after = {"after": page["data"][-1]["id"]}


def _json(response: httpx.Response) -> Mapping[str, Any]:
    response.raise_for_status()
    body: Mapping[str, Any] = response.json()
    return body


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "questions": len(verdicts),
        "on_top": sum(v.rank == 1 for v in verdicts),
        "mrr": round(sum(1 / v.rank for v in verdicts if v.rank) / len(verdicts), 4),
        "ranks": [
            {"question": v.question.text, "rank": v.rank, "top": v.found[:1]} for v in verdicts
        ],
    }


def as_markdown(verdicts: Sequence[Verdict]) -> str:
    lines = ["| question | right file | its rank | on top |", "|---|---|---|---|"]
    for v in verdicts:
        top = v.found[0] if v.found else "–"
        lines.append(f"| {v.question.text} | {v.question.files[0]} | {v.rank or '–'} | {top} |")
    on_top = sum(v.rank == 1 for v in verdicts)
    return "\n".join([*lines, "", f"right file on top: {on_top} of {len(verdicts)}"])
