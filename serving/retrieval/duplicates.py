"""Recognises passages that say the same, so that one of them is enough for the prompt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from serving.types import Passage

SAME = 0.95  # Jaccard similarity of word pairs
_WORD = re.compile(r"\w+")
_FACT = re.compile(r"\w*\d\w*|[A-Z]\w*")


@dataclass(frozen=True, slots=True)
class Gist:
    """`facts` are numbers and capitalised words: texts that differ in one say different things,
    however alike they are otherwise."""

    facts: frozenset[str]
    pairs: frozenset[tuple[str, str]]

    def same_as(self, other: Gist) -> bool:
        if self.facts != other.facts:
            return False
        return len(self.pairs & other.pairs) >= SAME * len(self.pairs | other.pairs)


def without_duplicates(passages: list[Passage], limit: int) -> list[Passage]:
    """The first `limit` passages, without those that repeat an earlier one."""
    kept: list[Passage] = []
    gists: list[Gist] = []
    for passage in passages:
        if len(kept) == limit:
            break
        gist = gist_of(passage)
        if not any(gist.same_as(other) for other in gists):
            kept.append(passage)
            gists.append(gist)
    return kept


def gist_of(passage: Passage) -> Gist:
    """Section headings count, the document's title does not: copies have other file names."""
    text = " ".join((*passage.heading_path[1:], passage.text))
    words = _WORD.findall(text.casefold())
    facts = frozenset(fact.casefold() for fact in _FACT.findall(text))
    return Gist(facts, frozenset(pairwise(["", *words])))
