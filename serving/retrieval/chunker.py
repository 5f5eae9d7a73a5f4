"""Cuts a parsed document into chunks along its structure.

A heading starts a chunk and names it; within a section, blocks are packed up to a word limit.
`text[start:end]` is exactly the chunk's text. Sits beside the retriever because documents sent
inside a request are cut here too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

# A word is a run without blanks, at most 40 long; scripts without blanks count each character.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,40}"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])|\n\s*\n")
_LINE_END = re.compile(r"\n")
# Titles and headings stand in every chunk below them: a longer one is cut, and a heading that was
# cut is read as a paragraph too.
MAX_HEADING_CHARS = 200
MAX_HEADER_WORDS = 24  # a longer first row is no header


class Kind(StrEnum):
    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structure at `text[start:end]`; `level` 1–6 is set on headings."""

    kind: Kind
    start: int
    end: int
    level: int = 0


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as text, with blocks in order that cover all of it but blanks."""

    title: str
    text: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`heading_path` starts with the document's title."""

    text: str
    title: str
    heading_path: tuple[str, ...]
    start: int
    end: int


@dataclass(slots=True)
class ParsedBuilder:
    """Collects blocks into a `Parsed`, one blank line between them."""

    _parts: list[str] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _length: int = 0

    def add(self, kind: Kind, text: str, level: int = 0) -> None:
        text = text.strip()
        if not text:
            return
        if kind is Kind.HEADING and len(text) > MAX_HEADING_CHARS:
            self.add(kind, heading(text), level)
            kind, level = Kind.PARAGRAPH, 0
        if self._parts:
            self._push("\n\n")
        start = self._length
        self._push(text)
        self._blocks.append(Block(kind, start, self._length, level))

    def _push(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def build(self, title: str = "", fallback_title: str = "") -> Parsed:
        """The title is the one given, else the first level-1 heading, else the fallback."""
        text = "".join(self._parts)
        first = next((block for block in self._blocks if block.level == 1), None)
        title = title or (text[first.start : first.end] if first else "") or fallback_title
        return Parsed(heading(title), text, tuple(self._blocks))


def heading(text: str) -> str:
    """On one line, and cut at a word if it is longer than a heading is."""
    line = " ".join(text[: 4 * MAX_HEADING_CHARS].split())
    if len(line) <= MAX_HEADING_CHARS:
        return line
    return f"{line[: MAX_HEADING_CHARS - 1].rsplit(' ', 1)[0].rstrip()}…"


def parse_plain(text: str, title: str) -> Parsed:
    """Text without markup: blank lines separate paragraphs."""
    builder = ParsedBuilder()
    for paragraph in re.split(r"\n[^\S\n]*\n", text.replace("\r\n", "\n").replace("\r", "\n")):
        builder.add(Kind.PARAGRAPH, paragraph)
    return builder.build(fallback_title=title)


def searchable(heading_path: Iterable[str], text: str) -> str:
    """What is embedded and indexed for a chunk: its text under its headings."""
    return f"{' > '.join(heading_path)}\n{text}"


def count_words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def chunk(parsed: Parsed, max_words: int, overlap_words: int = 0) -> list[Chunk]:
    """Chunks in document order, none longer than `max_words`. Within a section each begins with
    up to `overlap_words` of what stands before it, at most half of a chunk."""
    overlap_words = min(overlap_words, max_words // 2)
    return [
        Chunk(parsed.text[start:end], parsed.title, section.path, start, end)
        for section in _sections(parsed, max_words)
        for start, end in _overlapping(
            parsed.text,
            _pack(parsed.text, section.blocks, max_words - overlap_words),
            overlap_words,
        )
    ]


@dataclass(frozen=True, slots=True)
class _Section:
    path: tuple[str, ...]
    blocks: list[Block]


def _sections(parsed: Parsed, max_words: int) -> Iterator[_Section]:
    """Sections, where a table that must be cut is one of its own under its first row: a row says
    little without the names of its columns."""
    for section in _headed(parsed):
        blocks: list[Block] = []
        for block in section.blocks:
            header = _header(parsed.text, block, max_words)
            if not header:
                blocks.append(block)
                continue
            if blocks:
                yield _Section(section.path, blocks)
                blocks = []
            yield _Section((*section.path, header), [block])
        if blocks:
            yield _Section(section.path, blocks)


def _header(text: str, block: Block, max_words: int) -> str:
    """The first row of a table that is longer than a chunk and has more rows."""
    table = text[block.start : block.end]
    if block.kind is not Kind.TABLE or "\n" not in table or count_words(table) <= max_words:
        return ""
    first = " ".join(table.split("\n", 1)[0].split())
    return first if count_words(first) <= max(MAX_HEADER_WORDS, max_words // 4) else ""


def _headed(parsed: Parsed) -> Iterator[_Section]:
    """Each heading with what follows it. A heading over nothing at all is its own content."""
    headings: list[Block] = []
    section = _Section(_path(parsed, headings), [])
    for here, following in pairwise((*parsed.blocks, None)):
        assert here is not None
        if here.kind is not Kind.HEADING:
            section.blocks.append(here)
            continue
        if section.blocks:
            yield section
        headings = [heading for heading in headings if heading.level < here.level] + [here]
        section = _Section(_path(parsed, headings), [])
        if following is None or (following.kind is Kind.HEADING and following.level <= here.level):
            section.blocks.append(here)
    if section.blocks:
        yield section


def _path(parsed: Parsed, headings: list[Block]) -> tuple[str, ...]:
    names = [heading(parsed.text[h.start : h.end]) for h in headings]
    return tuple(names if names[:1] == [parsed.title] else [parsed.title, *names])


Span = tuple[int, int]


def _pack(text: str, blocks: list[Block], max_words: int) -> Iterator[Span]:
    """Joins neighbouring pieces; aims at equal chunks, so that no crumb is left at the end."""
    pieces = [piece for block in blocks for piece in _pieces(text, block, max_words)]
    total = sum(count_words(text[start:end]) for start, end in pieces)
    target = -(-total // max(1, -(-total // max_words)))
    taken, words = list[Span](), 0
    for start, end in pieces:
        size = count_words(text[start:end])
        if taken and (words >= target or words + size > max_words):
            yield taken[0][0], taken[-1][1]
            taken, words = [], 0
        taken.append((start, end))
        words += size
    if taken:
        yield taken[0][0], taken[-1][1]


def _overlapping(text: str, spans: Iterable[Span], overlap_words: int) -> Iterator[Span]:
    """The same spans, each but the first begun earlier by whole words of those before it."""
    before = deque[int](maxlen=overlap_words)
    seen: int | None = None
    for start, end in spans:
        if overlap_words and seen is not None:
            before.extend(word.start() for word in _WORD.finditer(text, seen, start))
        yield (before[0] if before else start), end
        seen = start


def _pieces(text: str, block: Block, max_words: int) -> Iterator[Span]:
    """The block whole if it fits, else its sentences or lines, else runs of words."""
    if count_words(text[block.start : block.end]) <= max_words:
        yield block.start, block.end
        return
    flows = block.kind in (Kind.PARAGRAPH, Kind.HEADING)
    for start, end in _split(text, block.start, block.end, _SENTENCE_END if flows else _LINE_END):
        yield from _runs(text, start, end, max_words)


def _split(text: str, start: int, end: int, boundary: re.Pattern[str]) -> Iterator[Span]:
    cuts = [match.end() for match in boundary.finditer(text, start, end)]
    for left, right in pairwise([start, *cuts, end]):
        span = _trim(text, left, right)
        if span[0] < span[1]:
            yield span


def _runs(text: str, start: int, end: int, max_words: int) -> Iterator[Span]:
    words = list(_WORD.finditer(text, start, end))
    for first in range(0, len(words), max_words):
        run = words[first : first + max_words]
        yield run[0].start(), run[-1].end()


def _trim(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
