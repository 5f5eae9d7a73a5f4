"""Recognises passages that say the same, so that one of them is enough for the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from serving.types import Passage

SAME = 0.95  # Jaccard similarity of word pairs
REMEMBERED = 4096  # the same passages are found again and again
_WORD = re.compile(r"\w+")
T = TypeVar("T")


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


def without_duplicates(
    hits: Iterable[T], limit: int, passage_of: Callable[[T], Passage]
) -> list[T]:
    """The first `limit` hits, without those whose passage repeats an earlier one's."""
    kept: list[T] = []
    gists: list[Gist] = []
    for hit in hits:
        passage = passage_of(hit)
        # Section headings count, the document's title does not: copies have other file names.
        gist = gist_of("\n".join((*passage.heading_path[1:], passage.text)))
        if not any(gist.same_as(other) for other in gists):
            kept.append(hit)
            gists.append(gist)
        if len(kept) == limit:  # before the next hit is made
            break
    return kept


@lru_cache(maxsize=REMEMBERED)
def gist_of(text: str) -> Gist:
    words = _WORD.findall(text)
    facts = frozenset(word.casefold() for word in words if word[0].isupper() or not word.isalpha())
    return Gist(facts, frozenset(pairwise(["", *_WORD.findall(text.casefold())])))
