"""Makes passages of pages, with the questions that they answer and those that they do not.

A passage is what the demo's chunker leaves of a document: one or two sentences under a heading
path. Beside it stand other sentences of the same page, the same page about something else (its
twin), or another page. Not answered are the questions of sentences left out, of the page's own
near misses, and of what is said of something else.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.model import pages, speech
from deploy.demo.model.corpus import (
    NOT_IN_PASSAGES,
    Chat,
    Turn,
    Writer,
    instructions,
    lower_first,
)
from deploy.demo.model.pages import Copy, Line
from serving.generation.prompt import render_system

_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one search found: passages as (label, text), turns they answer, other questions."""

    passages: tuple[tuple[str, str], ...]
    answered: tuple[Turn, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Told:
    """One passage: which lines of which copy it tells, and in which wordings."""

    copy: Copy
    wordings: dict[int, str]
    label: str
    text: str
    turns: tuple[Turn, ...]


class Teller:
    """Tells the passages of one lesson."""

    def __init__(self, rng: random.Random, held_out: bool = False) -> None:
        self.rng, self.held_out = rng, held_out
        self._twins: dict[Copy, Copy] = {}
        self.told: list[_Told] = []

    def lesson(self, count: int) -> Lesson:
        """Up to `count` passages, the pages' first sentences not always first."""
        for copy in self._copies(count):
            self._tell(copy)
        self.rng.shuffle(self.told)
        answered = [
            (question, f"{value}. [{number}]")
            for number, told in enumerate(self.told, 1)
            for question, value in told.turns
        ]
        self.rng.shuffle(answered)
        passages = tuple((told.label, told.text) for told in self.told)
        asked = {question for question, _ in answered}
        missing = [q for q in self._missing(len(answered)) if q not in asked]
        return Lesson(passages, tuple(answered), tuple(missing))

    def _copies(self, count: int) -> list[Copy]:
        """What the passages tell: the copy before again, its twin, or another page."""
        found = [self._other(())]
        while len(found) < count:
            last, roll = found[-1], self.rng.random()
            twin = self._twin(last) if roll > 0.6 else None
            found.append(last if roll < 0.35 else twin or self._other(found))
        return found

    def _other(self, known: Sequence[Copy]) -> Copy:
        """A copy of a page that is not among the known ones."""
        while True:
            page = self.rng.choice(pages.load(self.held_out))
            if all(copy.page is not page for copy in known):
                return Copy(page, self.rng, self.held_out)

    def _twin(self, copy: Copy) -> Copy | None:
        if copy not in self._twins:
            made = copy.twin()
            if made is None:
                return None
            self._twins |= {copy: made, made: copy}
        return self._twins[copy]

    def _tell(self, copy: Copy) -> None:
        """Adds a passage of lines that the copy has not told yet."""
        told = {n for t in self.told if t.copy is copy for n in t.wordings}
        pools = {
            n: self._fitting(copy, line.statements)
            for n, line in enumerate(copy.page.lines)
            if n not in told
        }
        left = [n for n, pool in pools.items() if pool]
        size = min(len(left), self.rng.choices((1, 2, 3), (55, 37, 8))[0])
        if not size:
            return
        sentences: list[str] = []
        wordings: dict[int, str] = {}
        turns: list[Turn] = []
        for n in self._chosen(copy, left, size):
            wordings[n] = copy.wording(n, pools[n])
            sentence, answers = copy.statement(n, wordings[n])
            sentences.append(pages.cut(sentence, answers) if self.rng.random() < 0.3 else sentence)
            turns += self._turns(copy, copy.page.lines[n], sentence, answers)
        text = self._surrounded(copy, " ".join(sentences))
        self.told.append(_Told(copy, wordings, self._label(copy), text, tuple(turns)))

    def _chosen(self, copy: Copy, left: Sequence[int], size: int) -> list[int]:
        """Some of the lines; those that the twin has told come first half of the time."""
        lines = self.rng.sample(left, len(left))
        twin = self._twins.get(copy)
        if twin is not None and self.rng.random() < 0.5:
            lines.sort(key=lambda n: n not in self._lines(twin))
        return lines[:size]

    def _fitting(self, copy: Copy, wordings: Sequence[str]) -> list[str]:
        """The wordings that fit the copy but not its twin, if it has one."""
        twin = self._twins.get(copy)
        return [w for w in wordings if twin is None or copy.mentions(w, twin)]

    def _turns(self, copy: Copy, line: Line, sentence: str, answers: dict[int, str]) -> list[Turn]:
        """Two questions for each value, one of them mostly in the words of the sentence."""
        found: list[Turn] = []
        said = set(_WORD.findall(sentence.lower()))
        for slot, questions in line.questions.items():
            pool = [copy.filled(question) for question in self._fitting(copy, questions)]
            self.rng.shuffle(pool)
            if self.rng.random() < 0.7:
                pool.sort(key=lambda q: -len(said.intersection(_WORD.findall(q.lower()))))
            chosen = [*pool[:1], *self.rng.sample(pool[1:], min(1, len(pool[1:])))]
            found += [(question, answers[slot]) for question in chosen]
        return found

    def _label(self, copy: Copy) -> str:
        """The heading path, sometimes only a part of it."""
        title, _, heading = copy.title.partition(" > ")
        names = [
            v
            for k, v in copy.page.variables.items()
            if v.strip() == "{name}"
            for v in [copy.variables[k]]
        ]
        roll = self.rng.random()
        if names and roll < 0.4:
            return f"{self.rng.choice((names[0], title))} > {self.rng.choice((names[0], heading))}"
        if roll < 0.08:
            return "-".join(heading.lower().split())
        return title if roll < 0.14 else copy.title

    def _surrounded(self, copy: Copy, text: str) -> str:
        """Some passages with a filler, or with a piece of the heading or of a sentence cut off."""
        roll = self.rng.random()
        if roll < 0.14:
            filler = self.rng.choice(speech.FILLERS)
            return f"{text} {filler}" if roll < 0.08 else f"{filler} {text}"
        if roll < 0.18:
            return f"{copy.title.partition(' > ')[2]} {'=' * self.rng.randint(3, 14)} {text}"
        if roll < 0.26:
            words = self.rng.choice(speech.FILLERS).split()
            half = self.rng.randint(1, len(words) - 1)
            return (
                f"{' '.join(words[half:])} {text}"
                if roll < 0.22
                else f"{text} {' '.join(words[:half])}"
            )
        return text

    def _missing(self, count: int) -> list[str]:
        """Questions that no passage answers, hard ones most often."""
        pools = [self._left_out(), self._own_misses(), self._said_of_others(), self._far()]
        for pool in pools:
            self.rng.shuffle(pool)
        found: list[str] = []
        while len(found) < count and any(pools):
            pool = self.rng.choices(pools, (40, 25, 25, 10))[0]
            if pool:
                found.append(pool.pop())
        return found

    def _left_out(self) -> list[str]:
        """Questions for sentences of the same pages that were not told."""
        found: list[str] = []
        for copy in self._copies_told():
            told = self._lines(copy) | self._lines(self._twins.get(copy))
            for n, line in enumerate(copy.page.lines):
                pool = [q for questions in line.questions.values() for q in questions]
                if n not in told and pool:
                    found += map(copy.filled, self.rng.sample(pool, min(2, len(pool))))
        return found

    def _lines(self, copy: Copy | None) -> set[int]:
        return {n for t in self.told if t.copy is copy for n in t.wordings}

    def _own_misses(self) -> list[str]:
        return [copy.filled(q) for copy in self._copies_told() for q in copy.page.misses]

    def _copies_told(self) -> list[Copy]:
        return list({told.copy: None for told in self.told})

    def _said_of_others(self) -> list[str]:
        """Questions for what is told, but of the twin, or of one nobody speaks of."""
        found: list[str] = []
        for told in self.told:
            twin = self._twins.get(told.copy)
            for other in filter(None, (twin, told.copy.twin())):
                known = [told.copy] if twin in (None, other) else [told.copy, twin]
                for n, wording in told.wordings.items():
                    if n not in self._lines(other) and _apart(other, wording, known):
                        questions = told.copy.page.lines[n].questions.values()
                        asked = [q for pool in questions for q in pool if _apart(other, q, known)]
                        found += [other.filled(q) for q in asked[:2]]
        return found

    def _far(self) -> list[str]:
        """Questions of a page that has nothing to do with the passages."""
        copy = self._other(self._copies_told())
        line = self.rng.choice(copy.page.lines)
        return [copy.filled(q) for questions in line.questions.values() for q in questions]


def _apart(copy: Copy, wording: str, others: Sequence[Copy]) -> bool:
    """Whether the wording names something by which the copy differs from all the others."""
    return all(copy.mentions(wording, other) for other in others)


def lesson(rng: random.Random, count: int, held_out: bool) -> Lesson:
    """A lesson over pages; now and then one of its passages is of the frames."""
    while not (made := Teller(rng, held_out).lesson(count)).answered:
        pass  # twins that no question tells apart
    if count == 1 or rng.random() > 0.15:
        return made
    writer = Writer(rng, held_out)
    section = writer.sections(1)[0]
    number = len(made.passages) + 1
    more = [(writer.question(f), f"{f.value}. [{number}]") for f in section.facts]
    answered = [*made.answered, *more]
    rng.shuffle(answered)
    return Lesson((*made.passages, (section.label, section.text)), tuple(answered), made.missing)


def chat(
    rng: random.Random,
    count: int,
    held_out: bool,
    turns: int = 12,
    miss: float = 0.3,
) -> Chat:
    """A chat over pages: questions that they answer, near misses and a little small talk."""
    made, writer = lesson(rng, count, held_out), Writer(rng, held_out)
    text, name = instructions(rng, held_out)
    answered, missing = list(made.answered), list(made.missing)
    found: list[Turn] = []
    while answered and len(found) < turns:
        roll = rng.random()
        if roll < 0.03:
            found.append(writer.small_talk(name))
        elif roll < 0.03 + miss and missing:
            found.append((_spoken(writer, missing.pop(), found), NOT_IN_PASSAGES))
        else:
            question, answer = answered.pop()
            found.append((_spoken(writer, question, found), answer))
    return Chat(render_system(text, made.passages), tuple(found))


def _spoken(writer: Writer, question: str, before: Sequence[Turn]) -> str:
    """The question as somebody would type it, sometimes as one more after another."""
    if before and writer.rng.random() < 0.08:
        return f"And {lower_first(question)}"
    return writer.spoken(question)
