"""Attaches verified citations to a streamed answer.

The model's `[n]` markers are hints: each claim is aligned with the passages after it was written
(post-hoc attribution, cf. FullCite, arXiv 2606.07130). A marker that no passage supports is
removed, a wrong number is corrected, and a supported claim without a marker is still annotated.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from serving.types import Citation, Delta, Passage

_MARKER = re.compile(r"[ \t]?\[(\d{1,2})\]")
_MARKER_BEGINS = re.compile(r"(?:[ \t]|[ \t]?\[\d{0,2})$")
_GLUED = re.compile(r"\w$")
_CLAIM_ENDS = re.compile(r"[.!?;:](?=\s)|\n")
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+")
_COMMON = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how "
    "i if in into is it its me my no not of on or our please say she so some such than that the "
    "their them then there these they this to under up us was we were what when where which who "
    "why will with would you your document documents information passage passages".split()
)
MIN_COVERAGE = 0.7  # share of a claim's words that its passage must contain
MAX_CLAIM_WORDS = 256  # a claim without end is looked at from its end
MIN_SPAN = 2  # or: so many of them in a row


async def cite(
    deltas: AsyncIterator[Delta], passages: Sequence[Passage]
) -> AsyncGenerator[Delta | Citation, None]:
    """The same deltas with checked markers, and a `Citation` after each supported claim.

    Without passages nothing is held back or looked at.
    """
    aligner = Aligner(passages)
    writers: dict[int, _Writer] = {}
    async for delta in deltas:
        if not passages or (not delta.text and delta.finish_reason is None):
            yield delta
            continue
        writer = writers.setdefault(delta.index, _Writer(aligner, delta.index))
        text, citations = writer.write(delta.text, last=delta.finish_reason is not None)
        if text == delta.text:
            yield delta
        elif text or delta.finish_reason or delta.extra or delta.logprobs:
            yield replace(delta, text=text)
        for citation in citations:
            yield citation


@dataclass(slots=True)
class _Writer:
    """One choice's text on its way out: what may become a marker is held back."""

    aligner: Aligner
    choice: int
    held: str = ""
    claim: str = ""  # since the last claim ended
    settled: Citation | None = None  # the claim that just ended; a marker may follow it
    sent: int = 0  # characters

    def write(self, text: str, *, last: bool) -> tuple[str, list[Citation]]:
        text, self.held = self.held + text, ""
        if not last and (begin := _MARKER_BEGINS.search(text)):
            text, self.held = text[: begin.start()], text[begin.start() :]
        out: list[str] = []
        citations: list[Citation] = []
        at = 0
        for marker in _MARKER.finditer(text):
            citations += self._say(text[at : marker.start()], out)
            citations += self._mark(marker, out)
            at = marker.end()
        citations += self._say(text[at:], out)
        if last:
            citations += self._settle()
        return "".join(out), citations

    def _say(self, text: str, out: list[str]) -> Iterator[Citation]:
        """Sends plain text, settling each claim that ends in it."""
        out.append(text)
        at = 0
        # The end of a claim shows only with what follows it, so look at the claim as a whole.
        claim, base = self.claim + text, self.sent - len(self.claim)
        self.sent += len(text)
        for end in _CLAIM_ENDS.finditer(claim):
            self.claim = claim[at : end.end()]
            yield from self._settle(base + end.end())
            at = end.end()
        self.claim = claim[at:]

    def _settle(self, index: int | None = None) -> Iterator[Citation]:
        index = self.sent if index is None else index
        number = self.aligner.support(self.claim)
        self.claim = ""
        if number is not None:
            yield from self._cite(number, index)

    def _mark(self, marker: re.Match[str], out: list[str]) -> Iterator[Citation]:
        """Keeps, corrects or drops one marker, which speaks for the claim before it."""
        hint = int(marker[1])
        number = self.aligner.support(self.claim, hint)
        if number is None and not self.claim.strip() and self.settled:
            number = self.settled.number
        if number is None:
            if _GLUED.search(self.claim) and marker[0][0] == "[":  # code, as in `a[0]`
                yield from self._say(marker[0], out)
            return
        out.append(marker[0].replace(marker[1], str(number)))
        self.sent += len(out[-1])
        self.claim = ""
        yield from self._cite(number, self.sent)

    def _cite(self, number: int, index: int) -> Iterator[Citation]:
        passage = self.aligner.passages[number - 1]
        known = self.settled
        self.settled = Citation(passage, number, index, self.choice)
        if known is None or known.number != number or index - known.index > len("  [10]"):
            yield self.settled


class Aligner:
    """Finds the passage that supports a claim."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self._places = [_places(_tokens(f"{p.label} {p.text}")) for p in passages]

    def support(self, claim: str, hint: int | None = None) -> int | None:
        """The number of the best supporting passage, the hinted one on a tie, or None."""
        words = _tokens(claim)[-MAX_CLAIM_WORDS:]
        content = [word for word in words if word not in _COMMON]
        if not content:
            return None
        best: tuple[float, bool, int] | None = None
        for number, places in enumerate(self._places, 1):
            coverage = sum(word in places for word in content) / len(content)
            span = _longest_span(words, places)
            if coverage >= MIN_COVERAGE or span >= MIN_SPAN:
                score = (coverage + span, number == hint, -number)
                best = score if best is None or score > best else best
        return None if best is None else -best[2]


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.lower())


def _places(words: Sequence[str]) -> dict[str, list[int]]:
    """Where each word stands."""
    places: dict[str, list[int]] = {}
    for at, word in enumerate(words):
        places.setdefault(word, []).append(at)
    return places


def _longest_span(claim: Sequence[str], places: Mapping[str, Sequence[int]]) -> int:
    """Words of content in the longest run that claim and passage share; a number counts twice."""
    longest, before = 0, dict[int, int]()
    for word in claim:
        weight = 2 if word[0].isdigit() else int(word not in _COMMON)
        before = {at: before.get(at - 1, 0) + weight for at in places.get(word, ())}
        longest = max(longest, max(before.values(), default=0))
    return longest
