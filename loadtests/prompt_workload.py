"""What the prompt benchmark asks: the demo company's documents, searched, by a Zipf law.

Searches are real (embedder, FAISS, words, fusion). A few files, or passages, get most of what is
asked, as in any help desk; who asks for the same thing twice seldom uses the same words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from deploy.demo.seed import COMPANY, DEMO
from serving.evaluate.corpus import Corpus
from serving.evaluate.modes import Item, read
from serving.evaluate.right_file import passages_of
from serving.retrieval.local_retriever import create_embedder
from serving.retrieval.refinement import Refiner
from serving.routing.query import read_query
from serving.settings import RetrievalSettings
from serving.types import Message, Mode, Passage

QUESTIONS = DEMO / "questions.jsonl"
_OPENINGS = ("", "Please tell me: ", "I would like to know: ", "Quick question. ", "Hi! ")
T = TypeVar("T")
_WORD = re.compile(r"[^\W_]{4,}")


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table. `asks`: the demo's own questions, or words of a wanted passage."""

    key: str
    words: str
    chunk_tokens: int
    limit: int
    asks: str
    exponent: float = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request with what its search found, best first."""

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    item: Item | None = None


class Workload:
    """Requests of one case; the same seed gives the same requests."""

    def __init__(self, case: Case, company: Path = COMPANY, questions: Path = QUESTIONS) -> None:
        settings = RetrievalSettings(chunk_tokens=case.chunk_tokens)
        self._case = case
        self._corpus = Corpus(settings, create_embedder(settings), Refiner())
        files = passages_of(company, case.chunk_tokens, skipped=[])
        self._passages = [passage for passage in files if passage.filename.endswith(".md")]
        self._corpus.add(self._passages)
        self._items = [item for item in read(questions) if item.file and Mode.RAG in item.modes]

    def requests(self, count: int, seed: int) -> list[Ask]:
        chance = random.Random(seed)
        draw = self._questions if self._case.asks == "questions" else self._searches
        texts = list(draw(chance, count))
        found = self._search(texts)
        return [Ask(_user(text), passages) for text, passages in zip(texts, found, strict=True)]

    def answerable(self) -> list[Ask]:
        """Every question about a fact, once, with what serving would have searched for it."""
        found = self._search([read_query(item.messages).text for item in self._items])
        return [
            Ask(item.messages, passages, item)
            for item, passages in zip(self._items, found, strict=True)
        ]

    def _questions(self, chance: random.Random, count: int) -> Iterator[str]:
        by_file: dict[str, list[str]] = {}
        for item in self._items:
            by_file.setdefault(str(item.file), []).append(item.messages[-1]["content"])
        for texts in zipf(chance, list(by_file.values()), count, self._case.exponent):
            yield chance.choice(_OPENINGS) + chance.choice(texts)

    def _searches(self, chance: random.Random, count: int) -> Iterator[str]:
        for passage in zipf(chance, self._passages, count, self._case.exponent):
            words = [*dict.fromkeys(_WORD.findall(passage.text))] or [passage.label]
            picked = chance.sample(words, min(len(words), chance.randint(2, 4)))
            yield f"What about {' '.join(picked)}?"

    def _search(self, texts: Sequence[str]) -> list[tuple[Passage, ...]]:
        different = [*dict.fromkeys(texts)]
        found = dict(zip(different, self._corpus.search(different, self._case.limit), strict=True))
        return [tuple(found[text]) for text in texts]


def _user(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def zipf(chance: random.Random, things: Sequence[T], count: int, exponent: float) -> list[T]:
    """Draws with weights 1 / rank ** exponent, the ranks given out at random."""
    ranked = chance.sample(things, len(things))
    return chance.choices(ranked, [rank**-exponent for rank in range(1, len(ranked) + 1)], k=count)
