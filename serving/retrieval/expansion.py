"""Grows hits to the whole section they stand in, as far as a budget of words lasts.

A file's chunks have consecutive keys, so a hit's neighbours are looked up, not searched for. A
grown passage keeps the id, the scores and so the citation of its hit; its offsets grow with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serving.retrieval.chunker import count_words
from serving.retrieval.hybrid import RankedHit
from serving.types import Passage

_BETWEEN_BLOCKS = len("\n\n")
_LINE = re.compile(r"(?:[-*•]|\d+[.)]) |[^\n]* \| ")  # an item of a list, a row of a table


def expand(hits: Iterable[RankedHit], limit: int, budget_words: int) -> list[Passage]:
    """The first `limit` hits, the best grown first. A hit that an earlier one has taken in is not
    repeated, the next one moves up."""
    grown: list[Passage] = []
    taken: set[tuple[int, int]] = set()  # of a shelf, and the chunk's key there
    for hit in hits:
        if len(grown) == limit:
            break
        if (id(hit.shelf), hit.key) in taken:
            continue
        barred = {key for shelf, key in taken if shelf == id(hit.shelf)}
        section, spent = _section(hit, budget_words, barred)
        budget_words -= spent
        taken.update((id(hit.shelf), key) for key in section)
        grown.append(_joined(hit, [section[key] for key in sorted(section)]))
    return grown


def _section(
    hit: RankedHit, budget_words: int, barred: set[int]
) -> tuple[Mapping[int, Passage], int]:
    """The run of chunks around the hit that fits the budget, the following before the preceding
    ones, and the words that it takes beyond the hit's own. Each is looked up once, since it may be
    deleted meanwhile."""
    run, spent = {hit.key: hit.passage}, 0
    ends = [(hit.key, 1), (hit.key, -1)]
    while ends:
        at, step = ends.pop(0)
        here, there = run[at], hit.shelf.passages.get(at + step)
        if there is None or at + step in barred:
            continue
        words = count_words(there.text)
        if spent + words > budget_words or not _adjacent(*sorted((here, there), key=_span)):
            continue
        spent += words
        run[at + step] = there
        ends.append((at + step, step))
    return run, spent


def _adjacent(left: Passage, right: Passage) -> bool:
    """Nothing but blanks between them: a second section of the same name has its heading there."""
    if (left.file_id, left.heading_path) != (right.file_id, right.heading_path):
        return False
    heading = len(left.heading_path[-1]) if left.heading_path else 0
    gap = right.start - left.end
    return left.end < right.end and gap < heading + 2 * _BETWEEN_BLOCKS


def _joined(hit: RankedHit, parts: Sequence[Passage]) -> Passage:
    """One passage of the whole run; `end - start` stays the length of its text."""
    text = parts[0].text
    for part in parts[1:]:
        gap = part.start - (parts[0].start + len(text))
        text += _blanks(gap, part.text) + part.text[max(0, -gap) :]
    start = parts[0].start
    return replace(hit.passage, text=text, start=start, end=start + len(text))


def _blanks(gap: int, following: str) -> str:
    """What the chunker cut away: its length is known, and its kind nearly always."""
    if gap == 1:
        return "\n" if _LINE.match(following) else " "
    return "\n" * min(gap, _BETWEEN_BLOCKS) + " " * (gap - _BETWEEN_BLOCKS)


def _span(passage: Passage) -> tuple[int, int]:
    return passage.start, passage.end
