"""The values that sentences give (counts, times, names, …): where they stand, and others like them.

Patterns only: what they miss is not asked about, and what they find is a literal part of the text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "money", "percent", "time", "date", "year", "weekday", "email", "code", "count", "name"
]
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
NUMBER_WORDS = tuple(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty "
    "fifty sixty ninety".split()
)
_MONTH = rf"(?:{'|'.join(MONTHS)})"
_NUMBER = r"\d+(?:[.,]\d+)*"
_SOURCES: Sequence[tuple[Kind, str]] = (
    ("email", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    ("money", rf"[€$£]\s?{_NUMBER}|{_NUMBER}\s?(?:euros?|dollars?|pounds?|EUR|USD|GBP|€)\b"),
    ("percent", rf"{_NUMBER}\s?(?:%|percent\b|per cent\b)"),
    ("time", r"\b\d{1,2}[:.]\d{2}\b(?:\s?[ap]m\b)?|\b\d{1,2}\s?[ap]m\b"),
    (
        "date",
        rf"\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?: \d{{4}}\b)?"
        rf"|\b{_MONTH} \d{{1,2}}\b(?:, \d{{4}}\b)?|\b{_MONTH} \d{{4}}\b",
    ),
    ("year", r"(?<=[Ii]n )(?:19|20)\d\d\b|(?<=since )(?:19|20)\d\d\b"),
    ("code", r"\b[A-Z]{1,4}-?\d{1,4}\b"),
    ("count", rf"\b(?:{_NUMBER}|{'|'.join(NUMBER_WORDS)}) [a-z]{{2,}}s\b"),
    ("weekday", rf"\b(?:{'|'.join(WEEKDAYS)})s?\b"),
    ("name", r"\b[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,}){1,2}\b"),
)
_PATTERNS = [(kind, re.compile(source)) for kind, source in _SOURCES]
_DIGITS = re.compile(r"\d+(?:[.,]\d{3})*")
_LISTS = (WEEKDAYS, MONTHS, NUMBER_WORDS)
_LONGEST_CHANGE = 12  # years that another year is away at most


@dataclass(frozen=True, slots=True)
class Value:
    """A literal part of a text."""

    text: str
    kind: Kind
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def values_of(text: str) -> list[Value]:
    """Every value of the text, in order; where two overlap, the more exact kind counts."""
    taken: list[Value] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            found = Value(match[0], kind, match.start())
            if all(found.end <= other.start or found.start >= other.end for other in taken):
                taken.append(found)
    return sorted(taken, key=lambda value: value.start)


def kind_of(text: str) -> Kind | None:
    """The kind of a text that is one value, whole."""
    found = values_of(text)
    return found[0].kind if len(found) == 1 and found[0].text == text else None


def another(value: str, rng: random.Random, known: Sequence[str] = ()) -> str | None:
    """A value of the same kind that is not this one; names are chosen among the known ones.

    None where no change is certain to contradict the value.
    """
    if any(char.isdigit() for char in value):
        return _with_other_number(value, rng)
    for words in _LISTS:
        if found := [word for word in words if re.search(rf"\b{word}", value)]:
            other = rng.choice([word for word in words if word not in found])
            return value.replace(found[0], other)
    if kind_of(value) != "name":
        return None
    others = [name for name in known if name != value and kind_of(name) == "name"]
    return rng.choice(others) if others else None


def _with_other_number(value: str, rng: random.Random) -> str | None:
    """Changes the first number only: a date keeps its year, a time its minutes."""
    match = _DIGITS.search(value)
    assert match is not None
    number = int(re.sub(r"[.,]", "", match[0]))
    other = rng.choice([n for n in _range(number, value) if n != number])
    text = f"{other:,}" if "," in match[0] else str(other).zfill(len(match[0]))
    changed = value[: match.start()] + text + value[match.end() :]
    return changed if changed != value else None


def _range(number: int, value: str) -> Sequence[int]:
    kind = kind_of(value)
    if kind == "time":
        return range(1, 13) if number <= 12 else range(13, 24)
    if kind == "date" and number <= 31:
        return range(1, 29)
    if 1900 <= number < 2100:
        return range(number - _LONGEST_CHANGE, number + _LONGEST_CHANGE)
    step = 10 ** max(0, len(str(number).rstrip("0")) and len(str(number)) - 2)
    return [n for n in range(number - 9 * step, number + 10 * step, step) if n > 1]


def replaced(text: str, old: str, new: str) -> str:
    """Every whole occurrence of `old`."""
    return re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _: new, text)


def holds(text: str, value: str) -> bool:
    """Whether the value stands in the text as whole words, case and spaces aside."""
    plain, wanted = (" ".join(one.casefold().split()) for one in (text, value))
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", plain) is not None


def sentences(text: str) -> Iterator[str]:
    """Lines cut where a sentence ends and another begins."""
    for line in text.splitlines():
        yield from re.split(r"(?<=[.!?])\s+(?=[\"“A-Z])", line.strip())
