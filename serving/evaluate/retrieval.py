"""Retrieval against labelled questions: one table, from dense alone to reranked.

Reads MTRAG-UN's own files as `passages.jsonl` and `questions.jsonl`. As its baselines do, only
questions that have relevant passages count, and the question is the last user turn; the arms with
a rewrite read the whole conversation, as a chat request would.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.evaluate.corpus import Corpus
from serving.evaluate.ranking import DEPTH, MEASURES, Score, score
from serving.routing.query import rewrite
from serving.types import Message, Passage, message_text


@dataclass(frozen=True, slots=True)
class Asked:
    """One labelled question: a conversation that ends with it."""

    id: str
    messages: tuple[Message, ...]
    relevant: frozenset[str]

    @property
    def last_turn(self) -> str:
        return message_text(self.messages[-1])


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to search."""

    name: str
    query: Callable[[Asked], str]
    weights: Mapping[str, float] | None = None
    rerank: bool = False


def _last_turn(asked: Asked) -> str:
    return asked.last_turn


def _rewritten(asked: Asked) -> str:
    return rewrite(asked.messages)


ARMS = (
    Arm("dense", _last_turn, {"dense": 1}),
    Arm("bm25", _last_turn, {"lexical": 1}),
    Arm("fused", _last_turn),
    Arm("fused+rewrite", _rewritten),
    Arm("fused+rewrite+rerank", _rewritten, rerank=True),
)


def read_passages(file: Path) -> list[Passage]:
    """Lines of `id`, `text` and optionally `title`.

    Raises:
        ValueError: names the line and the field that is missing or wrong.
    """
    passages = []
    for where, row in _rows(file):
        title = _string(row, "title", where, "")
        passages.append(
            Passage(
                _string(row, "id", where),
                _string(row, "text", where),
                filename=title,
                title=title,
                heading_path=(title,) if title else (),
            )
        )
    _distinct(file, [passage.id for passage in passages])
    return passages


def read_questions(file: Path, passages: Sequence[Passage]) -> list[Asked]:
    """Lines of `id`, `messages` and `relevant`; those with nothing relevant are left out.

    Raises:
        ValueError: names the line and the field that is missing or wrong.
    """
    known = {passage.id for passage in passages}
    questions = []
    for where, row in _rows(file):
        messages = _list(row, "messages", where)
        if not messages or not all(isinstance(m, dict) for m in messages):
            raise ValueError(f"{where}: 'messages' must be a list of chat messages")
        if messages[-1].get("role") != "user" or not message_text(messages[-1]).strip():
            raise ValueError(f"{where}: 'messages' must end with the user's question")
        relevant = _list(row, "relevant", where)
        if strange := [one for one in relevant if one not in known]:
            raise ValueError(f"{where}: 'relevant' names no passage '{strange[0]}'")
        if relevant:
            identity = _string(row, "id", where)
            questions.append(Asked(identity, tuple(messages), frozenset(relevant)))
    if not questions:
        raise ValueError(f"{file.name}: no question has a passage in 'relevant'")
    return questions


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's place, for messages, and its object."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name}: it is not UTF-8 text ({error.reason})") from None
    for number, line in enumerate(lines, 1):
        where = f"{file.name}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: not a JSON object")
        yield where, row


def _string(row: Mapping[str, Any], field: str, where: str, default: str | None = None) -> str:
    value = row.get(field, default)
    if not isinstance(value, str) or (default is None and not value):
        raise ValueError(f"{where}: '{field}' must be a string{' with text' * (default is None)}")
    return value


def _list(row: Mapping[str, Any], field: str, where: str) -> list[Any]:
    value = row.get(field)
    if not isinstance(value, list):
        raise ValueError(f"{where}: '{field}' must be a list")
    return value


def _distinct(file: Path, ids: Sequence[str]) -> None:
    if not ids:
        raise ValueError(f"{file.name}: there are no passages")
    seen: set[str] = set()
    for identity in ids:
        if identity in seen:
            raise ValueError(f"{file.name}: two passages have the 'id' '{identity}'")
        seen.add(identity)


Table = dict[str, dict[str, Score]]  # by arm and measure


def measure(corpus: Corpus, questions: Sequence[Asked], arms: Sequence[Arm]) -> Table:
    """Asks every question in every arm."""
    relevant = [question.relevant for question in questions]
    table: Table = {}
    for arm in arms:
        queries = [arm.query(question) for question in questions]
        found = corpus.search(queries, DEPTH, arm.weights, arm.rerank)
        table[arm.name] = score([[p.id for p in passages] for passages in found], relevant)
    return table


def as_json(table: Table) -> dict[str, dict[str, Any]]:
    """`{"dense": {"ndcg@10": 0.8, …, "ci95": {"ndcg@10": [0.76, 0.84], …}}, …}`."""
    return {
        arm: {
            **{name: round(one.mean, 4) for name, one in scores.items()},
            "ci95": {name: [round(one.low, 4), round(one.high, 4)] for name, one in scores.items()},
        }
        for arm, scores in table.items()
    }


def as_markdown(table: Table) -> str:
    lines = [f"| search | {' | '.join(MEASURES)} |", "|---" * (len(MEASURES) + 1) + "|"]
    for arm, scores in table.items():
        cells = [f"{one.mean:.3f} ({one.low:.2f}–{one.high:.2f})" for one in scores.values()]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)
