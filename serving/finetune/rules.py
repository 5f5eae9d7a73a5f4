"""Questions that a passage answers, by rule: from labels, tables, definitions and values.

Each answer is a literal part of the passage. Rules ask plainly and alike; a model asks as people
do (`drafting.py`), and makes mistakes that rules do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.finetune.values import Kind, Value, holds, sentences, values_of
from serving.types import Passage

By = Literal["label", "table", "definition", "sentence", "model"]
MAX_ANSWER_WORDS = 12
MAX_SUBJECT_WORDS = 8
MAX_SENTENCE_WORDS = 28
_LABEL = re.compile(r"^(?:[-*•]\s*)?([A-Z][\w /'()-]{1,40}?):\s+(\S.*)$")
_AUXILIARIES = "is are was were can must may will should".split()
_AUXILIARY = re.compile(rf"^(.+?) ({'|'.join(_AUXILIARIES)})\b ?(.*)$")
_PREPOSITION = re.compile(r"(?:^|\s)(up to|at|on|in|within|after|before|for|until|from|by|with)$")
# What cannot stand before a question word, or begin a subject.
_UNASKABLE = re.compile(
    r"\b(?:than|every|each|about|least|most|the|an?|minus|up|this|next|first|last|per|and|or|only)$"
)
_OPENING = frozenset("in from for at on with after before during by to under over".split())
_CLAUSE = re.compile(r",| and | or | but | which | who | because | so | when | if ")
_PERSON = re.compile(r"\b(?:head|director|manager|lead|chief|founder|owner|contact|host|deputy)\b")
_PRONOUNS = frozenset(
    "it they he she this these that those there here its their his her which who what when where "
    "if when while after before then also but and or so please".split()
)
_DEFINITION = re.compile(r"^(.+?) (is|are) ((?:an?|the) .+)$")
_OF = re.compile(r"^ (of (?!(?:an?|the|each|all|its)\b)[a-z]+)\b")
# Third person or plain form → what `do` becomes, and the verb after it.
_VERBS = {
    form: (do, base)
    for base, third in (
        pair.split("/")
        for pair in (
            "receive/receives get/gets give/gives pay/pays cost/costs take/takes last/lasts "
            "begin/begins start/starts end/ends open/opens close/closes stay/stays meet/meets "
            "need/needs keep/keeps hold/holds have/has use/uses cover/covers send/sends work/works "
            "come/comes go/goes run/runs sell/sells buy/buys make/makes employ/employs "
            "serve/serves offer/offers allow/allows weigh/weighs measure/measures"
        ).split()
    )
    for form, do in ((base, "do"), (third, "does"))
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that its passage answers; `answer` is a literal part of the passage's text."""

    question: str
    answer: str
    gold: Passage
    by: By


def ask(passage: Passage, is_word: Callable[[str], bool]) -> Iterator[Draft]:
    """Every question that a rule can ask of the passage, the surest rules first.

    `is_word` says whether a capitalised word is an ordinary one, which a sentence began with.
    """
    topic = passage.label.rpartition(" > ")[2]
    for question, answer, by in _found(passage.text, topic, is_word):
        if _is_sound(question, answer, passage):
            yield Draft(question, answer, passage, by)


def _found(text: str, topic: str, is_word: Callable[[str], bool]) -> Iterator[tuple[str, str, By]]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if " | " not in line and (match := _LABEL.match(line)):
            label, value = match[1], match[2].strip().rstrip(".")
            yield _what(label, f"for {topic}"), value, "label"
    for question, answer in _of_table([line for line in lines if " | " in line]):
        yield question, answer, "table"
    prose = [line for line in lines if " | " not in line and not _LABEL.match(line)]
    for sentence in sentences("\n".join(prose)):
        yield from _of_sentence(sentence, is_word)


def _is_sound(question: str, answer: str, passage: Passage) -> bool:
    words = answer.split()
    return (
        0 < len(words) <= MAX_ANSWER_WORDS
        and len(question.split()) >= 4
        and not holds(question, answer)
        and holds(passage.text, answer)
    )


def _of_table(rows: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`column: value | column: value`, or a grid whose first row is its header."""
    cells = [[cell.strip() for cell in row.split(" | ")] for row in rows]
    named = [row for row in cells if all(": " in cell for cell in row)]
    for row in named:
        pairs = [cell.split(": ", 1) for cell in row]
        for column, value in pairs[1:]:
            yield _what(column, f"of {pairs[0][1]}"), value
    if named or len(cells) < 2:
        return
    header, *body = cells
    if any(values_of(cell) for cell in header):  # the header is in another chunk
        return
    for row in body:
        for column, value in zip(header[1:], row[1:], strict=False):
            if column and value:
                yield _what(column, f"of {row[0]}"), value


def _what(label: str, of: str) -> str:
    """`What is the price of Basalt Castle?`"""
    label = label if label[:2].isupper() else label[:1].lower() + label[1:]
    last = label.split()[-1]
    verb = "are" if last.endswith("s") and not last.endswith("ss") else "is"
    return f"What {verb} the {label} {of}?"


def _of_sentence(sentence: str, is_word: Callable[[str], bool]) -> Iterator[tuple[str, str, By]]:
    words = sentence.split()
    if not 4 <= len(words) <= MAX_SENTENCE_WORDS or not sentence.endswith("."):
        return
    if words[0].strip(",").lower() in _PRONOUNS or not words[0][:1].isupper():
        return
    body = sentence.rstrip(".")
    found = values_of(body)
    for value in found:
        if question := _asked(body, value, is_word):
            yield question, value.text, "sentence"
    match = _DEFINITION.match(body)
    if match and not found and len(match[1].split()) <= MAX_SUBJECT_WORDS:
        yield f"What {match[2]} {_mid(match[1], is_word)}?", match[3], "definition"


def _asked(body: str, value: Value, is_word: Callable[[str], bool]) -> str | None:
    """The sentence as a question for one of its values; None where no plain one can be made."""
    before, after = body[: value.start].rstrip(), _first_clause(body[value.end :])
    if _CLAUSE.search(before) or _UNASKABLE.search(before) or len(before.split()) == 1:
        return None
    said = _AUXILIARY.match(before)
    if said and _is_subject(said[1]) and not said[3] and said[2] in ("is", "are", "was", "were"):
        return _copular(value, said[1], said[2], after, is_word)
    if value.kind == "name":
        return None
    wh = _wh(value)
    if not before:
        return f"{wh[:1].upper()}{wh[1:]}{after}?"
    if said and _is_subject(said[1]):
        return _fronted(wh, said[2], _mid(said[1], is_word), said[3], after)
    return _with_do(wh, before, after, is_word) or f"{before} {wh}{after}?"


def _copular(
    value: Value, subject: str, verb: str, after: str, is_word: Callable[[str], bool]
) -> str | None:
    """`What is the limit?`, `Who is the head of finance?`"""
    if value.kind == "name" and not _PERSON.search(subject.lower()):
        return None
    if value.kind in ("time", "count"):
        return f"{_wh(value).capitalize()} {verb} {_mid(subject, is_word)}{after}?"
    return f"{'Who' if value.kind == 'name' else 'What'} {verb} {_mid(subject, is_word)}{after}?"


def _with_do(wh: str, before: str, after: str, is_word: Callable[[str], bool]) -> str | None:
    words = before.split()
    for at, word in enumerate(words[: MAX_SUBJECT_WORDS + 1]):
        do, base = _VERBS.get(word, ("", ""))
        is_many = words[at - 1].endswith("s") or words[at - 1].lower() in ("you", "we", "people")
        if at and do and (do == "do") is is_many and _is_subject(" ".join(words[:at])):
            rest = " ".join([base, *words[at + 1 :]])
            if rest.endswith((" of", " over")):
                return None
            return _fronted(wh, do, _mid(" ".join(words[:at]), is_word), rest, after)
    return None


def _first_clause(text: str) -> str:
    """Without what follows in another clause."""
    return _CLAUSE.split(text)[0].rstrip()


def _fronted(wh: str, auxiliary: str, subject: str, rest: str, after: str) -> str:
    if preposition := _PREPOSITION.search(rest):
        wh = f"{preposition[1]} {wh}"
        rest = rest[: preposition.start()]
    if of := _OF.match(after):
        wh, after = f"{wh} {of[1]}", after[of.end() :]
    parts = " ".join(filter(None, [wh, auxiliary, subject, rest.strip()]))
    return f"{parts[:1].upper()}{parts[1:]}{after}?"


def _is_subject(text: str) -> bool:
    words = text.split()
    return 0 < len(words) <= MAX_SUBJECT_WORDS and words[0].lower() not in _OPENING


def _wh(value: Value) -> str:
    asked: dict[Kind, str] = {
        "money": "how much",
        "percent": "what percentage",
        "time": "what time",
        "date": "which date",
        "year": "which year",
        "weekday": "which day",
        "email": "which address",
        "code": "which code",
        "name": "who",
    }
    if value.kind == "count":
        return f"how many {value.text.split()[-1]}"
    return asked[value.kind]


def _mid(text: str, is_word: Callable[[str], bool]) -> str:
    """As it stands inside a sentence."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}".strip() if is_word(first) else text
