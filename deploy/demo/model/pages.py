"""Reads the hand-written pages and tells them: sentences, questions and near misses.

A page (`pages/*.txt`, one blank line between pages) has a title, variables, sentences in several
wordings, questions for each value in them, and questions that it does not answer:

    = Company bikes > Hire
    $x = bike/scooter/cargo bike
    - The shed lends {number} ${x}s to staff. | Staff can borrow {number} ${x}s from the shed.
    ? How many ${x}s can staff borrow? | What is the number of ${x}s in the shed?
    ! What does it cost to hire a $x?

A `{slot}` is a value to draw; a second one in the same sentence is numbered (`{date:2}`) and
asked by `?2`. A hash of the title keeps a tenth of the pages out of training.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo.model import values
from deploy.demo.model.words import NOUNS, is_held_out

FOLDER = Path(__file__).with_name("pages")
_SLOT = re.compile(r"(?<!\$)\{(?P<kind>\w+)(?::(?P<number>\d))?(?:: (?P<picks>[^{}]+))?\}")
_VARIABLE = re.compile(r"(?P<article>\b[Aa]n? )?\$(?:\{(?P<long>[a-z]+)\}|(?P<short>[a-z]+))")
_HOLE = re.compile(r"<(\d)>")
_NOUN = re.compile(r"\b(?:the|an?|your|our|my|each|every) ([a-z]{3,})\b")
_COUNTED = re.compile(r"<(\d)>((?: [a-z-]+){1,3})")
_NOT_COUNTED = frozenset(
    "of is are was were to for in on at and or a an the per each every as by from than may can "
    "must will has have does".split()
)
_PLURALS = frozenset("people staff children men women".split())
_SYLLABLES = (
    "ba cor del fen gar hul jin kem lor mip nas orb pel quo rud sim tav ulb ven wex".split()
)
LONGEST = 16  # words of a chunk as the demo cuts its documents


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence in its wordings, `<1>` and `<2>` for the values, and the questions for each."""

    statements: tuple[str, ...]
    slots: Mapping[int, tuple[str, ...]]
    questions: dict[int, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as written; `nouns` are words of its sentences that its questions repeat."""

    title: str
    variables: Mapping[str, str]
    lines: tuple[Line, ...]
    misses: tuple[str, ...]
    nouns: tuple[str, ...]


def parse(text: str, name: str) -> list[Page]:
    """The pages of one file.

    Raises:
        ValueError: names the file and the line that is malformed.
    """
    found: list[Page] = []
    reader = _Reader()
    for number, line in enumerate((*text.splitlines(), ""), 1):
        try:
            if line.strip():
                reader.read(line.strip())
            elif reader.title:
                found.append(reader.page())
                reader = _Reader()
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from None
    return found


class _Reader:
    """Collects the lines of one page."""

    def __init__(self) -> None:
        self.title = ""
        self.variables: dict[str, str] = {}
        self.lines: list[Line] = []
        self.misses: tuple[str, ...] = ()

    def read(self, line: str) -> None:
        mark, _, rest = line.partition(" ")
        if not self.title and mark != "=":
            raise ValueError("a page begins with '= title > heading'")
        parts = tuple(part.strip() for part in rest.split(" | "))
        self._check(rest)
        if mark == "=":
            self.title = rest
        elif mark.startswith("$"):
            self.variables[mark[1:]] = rest.removeprefix("= ")
        elif mark == "-":
            self.lines.append(_line(parts))
        elif mark in ("?", "?2", "?3"):
            self._ask(int(mark[1:] or 1), parts)
        elif mark == "!":
            self.misses += parts
        else:
            raise ValueError(f"'{mark}' is none of = $ - ? !")

    def _ask(self, slot: int, questions: tuple[str, ...]) -> None:
        if not self.lines or slot not in self.lines[-1].slots:
            raise ValueError(f"no sentence with a value {slot} stands above the questions")
        known = self.lines[-1].questions
        known[slot] = known.get(slot, ()) + questions

    def _check(self, text: str) -> None:
        for match in _VARIABLE.finditer(text):
            if (match["long"] or match["short"]) not in self.variables:
                raise ValueError(f"'{match[0].strip()}' is not defined")

    def page(self) -> Page:
        if not self.lines:
            raise ValueError(f"'{self.title}' has no sentence")
        asked = " ".join(q for line in self.lines for qs in line.questions.values() for q in qs)
        words = set(re.findall(r"[a-z]+", asked))
        said = " ".join(text for line in self.lines for text in line.statements)
        nouns = dict.fromkeys(w for w in _NOUN.findall(said) if w in words)
        return Page(self.title, self.variables, tuple(self.lines), self.misses, tuple(nouns))


def _line(wordings: tuple[str, ...]) -> Line:
    slots = [_slots(text) for text in wordings]
    if any(set(other) != set(slots[0]) for other in slots):
        raise ValueError("the wordings of a sentence have different values")
    holes = tuple(_SLOT.sub(lambda m: f"<{m['number'] or 1}>", text) for text in wordings)
    return Line(holes, slots[0])


def _slots(text: str) -> dict[int, tuple[str, ...]]:
    """The kind of each value, or its alternatives where the page lists them."""
    found: dict[int, tuple[str, ...]] = {}
    for match in _SLOT.finditer(_VARIABLE.sub("x", text)):
        kind, picks = match["kind"], match["picks"]
        if kind != "pick" and kind not in values.KINDS:
            raise ValueError(f"'{kind}' is no kind of value")
        found[int(match["number"] or 1)] = tuple(picks.split("/")) if picks else (kind,)
    if not found:
        raise ValueError("a sentence needs a value")
    return found


@functools.cache
def load(held_out: bool) -> tuple[Page, ...]:
    """The pages of one split."""
    pages = [p for path in sorted(FOLDER.glob("*.txt")) for p in parse(path.read_text(), path.name)]
    return tuple(page for page in pages if is_held_out(page.title) == held_out)


@functools.cache
def _nouns() -> tuple[str, ...]:
    found = dict.fromkeys(noun for page in load(held_out=False) for noun in page.nouns)
    return (*found, *NOUNS)


def _any_noun(rng: random.Random) -> str:
    """A noun of another page or, now and then, a word that does not exist."""
    if rng.random() < 0.15:
        return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3))))
    return rng.choice(_nouns())


def texts() -> Iterator[str]:
    """All wordings and questions for training, variables and values left blank."""
    for page in load(held_out=False):
        for line in page.lines:
            for text in (*line.statements, *(q for qs in line.questions.values() for q in qs)):
                yield _HOLE.sub("", _VARIABLE.sub("", text))
        yield from (_VARIABLE.sub("", text) for text in page.misses)
        yield from (
            _VARIABLE.sub("", pick) for v in page.variables.values() for pick in v.split("/")
        )


class Copy:
    """A page with its variables and values drawn, and some of its nouns exchanged."""

    def __init__(
        self,
        page: Page,
        rng: random.Random,
        held_out: bool,
        swaps: Mapping[str, str] | None = None,
    ) -> None:
        self.page, self._rng, self._held_out = page, rng, held_out
        self.swaps = _swaps(page, rng) if swaps is None else swaps
        self.variables = {name: self._drawn(text) for name, text in page.variables.items()}
        self._values = [
            {slot: self._value(kinds) for slot, kinds in line.slots.items()} for line in page.lines
        ]
        self.title = self.filled(page.title)

    def twin(self) -> Copy | None:
        """The same page about something else; none where it has no variables."""
        for _ in range(4 if self.variables else 0):
            other = Copy(self.page, self._rng, self._held_out, self.swaps)
            if other.variables != self.variables:
                return other
        return None

    def _drawn(self, text: str) -> str:
        if _SLOT.fullmatch(text.strip()):
            return self._value(_slots(text)[1])
        return self._rng.choice(text.split("/")).strip()

    def _value(self, kinds: tuple[str, ...]) -> str:
        if len(kinds) > 1:
            return self.filled(self._rng.choice(kinds).strip())
        return values.value(kinds[0], self._rng, self._held_out)

    def filled(self, text: str) -> str:
        """The text with this copy's variables and nouns."""
        if self.swaps:
            words = "|".join(self.swaps)
            pattern = rf"(?<![${{])(?P<article>\b[Aa]n? )?\b(?<![${{])(?P<word>{words})(?P<s>s?)\b"
            text = re.sub(pattern, lambda m: _article(m, self.swaps[m["word"]]) + m["s"], text)
        return _VARIABLE.sub(lambda m: _article(m, self.variables[m["long"] or m["short"]]), text)

    def mentions(self, text: str, other: Copy) -> bool:
        """Whether a wording names a variable in which the two copies differ."""
        used = {match["long"] or match["short"] for match in _VARIABLE.finditer(text)}
        return any(self.variables[name] != other.variables[name] for name in used)

    def wording(self, line: int, pool: Sequence[str]) -> str:
        """One of the wordings; only in need one that begins with a value in small letters."""
        told = self._values[line]
        better = [t for t in pool if not (t[0] == "<" and told[int(t[1])][0].islower())]
        return self._rng.choice(better or pool)

    def statement(self, line: int, wording: str) -> tuple[str, dict[int, str]]:
        """The wording as a sentence, and the answer to the questions for each value."""
        told, text = self._values[line], self.filled(wording)
        answers = {slot: value + self._unit(line, slot, text) for slot, value in told.items()}
        sentence = _HOLE.sub(lambda m: told[int(m[1])], text)
        return sentence[0].upper() + sentence[1:], answers

    def _unit(self, line: int, slot: int, text: str) -> str:
        """What a bare number counts: " unused days" in "up to 12 unused days"."""
        found = self.page.lines[line]
        asked = " ".join(found.questions.get(slot, ())).lower()
        if found.slots[slot] != ("number",) or not re.search("how many|number of", asked):
            return ""
        for match in _COUNTED.finditer(text):
            if int(match[1]) == slot:
                return _counted(match[2].split())
        return ""


def _counted(following: Sequence[str]) -> str:
    for n, word in enumerate(following, 1):
        if word in _NOT_COUNTED:
            break
        if word in _PLURALS or (word.endswith("s") and not word.endswith("ss")):
            return "".join(f" {w}" for w in following[:n])
    return ""


def _article(match: re.Match[str], word: str) -> str:
    """The word behind the article that suits it, if one stands before."""
    if not match["article"]:
        return word
    article = "an " if word[0].lower() in "aeiou" else "a "
    return (article.capitalize() if match["article"][0] == "A" else article) + word


def _swaps(page: Page, rng: random.Random) -> dict[str, str]:
    """Other nouns for some of a page's, so that any word can be the one that matters."""
    if rng.random() < 0.5:
        return {}
    chosen = rng.sample(page.nouns, min(len(page.nouns), rng.randint(1, 4)))
    return {noun: _any_noun(rng) for noun in chosen}


def cut(sentence: str, answers: Mapping[int, str]) -> str:
    """A long sentence without its end, as the chunker leaves it, if the answers stay whole."""
    words = sentence.split()
    short = " ".join(words[:LONGEST])
    whole = all(value.lower() in short.lower() for value in answers.values())
    return short if len(words) > LONGEST and whole else sentence
