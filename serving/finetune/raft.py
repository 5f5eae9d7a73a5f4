"""Training examples that teach an adapter to read (RAFT): a question among passages of a store.

Most keep the passage that answers it beside hard distractors; some lack it and are refused; in
some it is altered, and the answer follows it. Pure: the same drafts and seed give the same
examples. `raft_format.py` writes them down.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from serving.finetune.rules import Draft
from serving.finetune.values import another, holds, replaced
from serving.retrieval.duplicates import Gist, gist_of
from serving.types import Passage

SEARCHED = 10  # a question must find its own passage among so many
STYLE = "{answer}. {citation}"
REFUSAL = "The documents do not say."

Search = Callable[[str], Sequence[Passage]]


class Kind(StrEnum):
    """What an example teaches, or asks when it validates."""

    ANSWERED = "answered"
    UNANSWERABLE = "unanswerable"  # its passage is not there
    COUNTERFACTUAL = "counterfactual"  # its passage says something else


@dataclass(frozen=True, slots=True)
class Recipe:
    """Shares of the mix and the house's words. `passages` in a prompt, as when serving."""

    passages: int = 3
    without_gold: float = 0.2
    counterfactual: float = 0.1
    validation: float = 0.15
    seed: int = 0
    style: str = STYLE
    refusal: str = REFUSAL
    instructions: str = ""
    grounding: str = ""
    special_tokens: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """`answer` is None where the passages hold none; `number` is that of the passage that does."""

    kind: Kind
    question: str
    answer: str | None
    passages: tuple[Passage, ...]
    number: int | None
    file: str


@dataclass(slots=True)
class Drawn:
    """What came of the drafts: examples by split, and how many were dropped for which reason."""

    train: list[Example] = field(default_factory=list)
    validation: list[Example] = field(default_factory=list)
    questions: list[Example] = field(default_factory=list)  # every kind of each validation draft
    by_rule: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        lines = ["| examples | train | validation | questions for the gate |", "|---|---|---|---|"]
        counts = [Counter(e.kind for e in part) for part in self._parts]
        lines += [f"| {kind} | {' | '.join(str(c[kind]) for c in counts)} |" for kind in Kind]
        files = (str(len({e.file for e in part})) for part in self._parts)
        lines.append(f"| from files | {' | '.join(files)} |")
        lines += ["", "| drafted by | kept |", "|---|---|"]
        lines += [f"| {by} | {count} |" for by, count in sorted(self.by_rule.items())]
        lines += ["", "| dropped because | drafts |", "|---|---|"]
        lines += [f"| {why} | {count} |" for why, count in self.dropped.most_common()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        names = ("train", "validation", "questions")
        return {
            **{n: Counter(e.kind for e in p) for n, p in zip(names, self._parts, strict=True)},
            "drafted_by": dict(self.by_rule),
            "dropped": dict(self.dropped),
        }

    @property
    def _parts(self) -> tuple[list[Example], ...]:
        return self.train, self.validation, self.questions


def draw(drafts: Sequence[Draft], search: Search, recipe: Recipe) -> Drawn:
    """Examples of the drafts, each passage found by `search`."""
    drawn, rng = Drawn(), random.Random(recipe.seed)
    sound = list(_distinct(drafts, drawn.dropped))
    held_out = _held_out([draft.gold.file_id for draft in sound], recipe.validation, rng)
    names = sorted({draft.answer for draft in sound})
    for is_validation in (False, True):
        part = [d for d in sound if (d.gold.file_id in held_out) is is_validation]
        rng.shuffle(part)
        barred: frozenset[str] = frozenset() if is_validation else held_out
        maker = _Maker(recipe, search, names, barred, rng)
        made = [(draft, maker.all_kinds(draft, drawn.dropped)) for draft in part]
        usable = [(draft, kinds) for draft, kinds in made if kinds]
        drawn.by_rule.update(draft.by for draft, _ in usable)
        chosen = list(_mixed([kinds for _, kinds in usable], recipe))
        if is_validation:
            drawn.validation = chosen
            drawn.questions = [one for _, kinds in usable for one in kinds.values()]
        else:
            drawn.train = chosen
    return drawn


def _distinct(drafts: Sequence[Draft], dropped: Counter[str]) -> Iterator[Draft]:
    """Without questions asked twice and passages that say what another says, in any file."""
    answers: dict[str, set[str]] = defaultdict(set)
    for draft in drafts:
        answers[_plain(draft.question)].add(_plain(draft.answer))
    questions, golds = _Seen(), _Seen()
    for draft in drafts:
        if len(answers[_plain(draft.question)]) > 1:
            dropped["the same question has several answers"] += 1
        elif questions.before(draft.question, ""):
            dropped["asked before, nearly in the same words"] += 1
        elif golds.before(draft.gold.text, draft.gold.id):
            dropped["its passage is nearly the same as another"] += 1
        else:
            yield draft


class _Seen:
    """Texts met so far. One owner may bring the same text again."""

    def __init__(self) -> None:
        self._known: dict[frozenset[str], list[tuple[Gist, str]]] = defaultdict(list)

    def before(self, text: str, owner: str) -> bool:
        gist = gist_of(text)
        alike = [who for known, who in self._known[gist.facts] if known.same_as(gist)]
        if not alike:
            self._known[gist.facts].append((gist, owner))
        return bool(alike) and (not owner or owner not in alike)


def _held_out(files: Sequence[str], share: float, rng: random.Random) -> frozenset[str]:
    """Whole files, until they hold the share of all drafts; one stays for training."""
    counts = Counter(files)
    order = sorted(counts)
    rng.shuffle(order)
    held: list[str] = []
    for file in order[:-1]:
        if sum(counts[one] for one in held) >= share * len(files):
            break
        held.append(file)
    return frozenset(held)


def _mixed(made: Sequence[dict[Kind, Example]], recipe: Recipe) -> Iterator[Example]:
    """One example of each draft, in the recipe's shares as far as the drafts allow."""
    left = Counter(
        {
            Kind.UNANSWERABLE: round(recipe.without_gold * len(made)),
            Kind.COUNTERFACTUAL: round(recipe.counterfactual * len(made)),
        }
    )
    for kinds in made:
        kind = next((k for k, n in left.items() if n > 0 and k in kinds), Kind.ANSWERED)
        left[kind] -= 1
        yield kinds[kind]


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes examples of one split; `barred` files are the other's, and no distractors."""

    recipe: Recipe
    search: Search
    names: Sequence[str]
    barred: frozenset[str]
    rng: random.Random

    def all_kinds(self, draft: Draft, dropped: Counter[str]) -> dict[Kind, Example]:
        """Every kind of example that the draft allows; none if its passage is not found."""
        hits = self.search(draft.question)
        if draft.gold.id not in {hit.id for hit in hits}:
            dropped["its question does not find its passage"] += 1
            return {}
        others = [hit for hit in hits if self._distracts(hit, draft)]
        if not others:
            dropped["no other passage to tell it from"] += 1
            return {}
        found = {Kind.ANSWERED: self._with_gold(Kind.ANSWERED, draft, draft.gold, others)}
        if (altered := self._altered(draft, others)) is not None:
            found[Kind.COUNTERFACTUAL] = altered
        near = tuple(others[: self.recipe.passages])
        found[Kind.UNANSWERABLE] = Example(
            Kind.UNANSWERABLE, draft.question, None, near, None, draft.gold.filename
        )
        return found

    def _distracts(self, hit: Passage, draft: Draft) -> bool:
        """From another file or section, and without the answer."""
        gold = draft.gold
        elsewhere = (hit.file_id, hit.label) != (gold.file_id, gold.label)
        says_it = holds(f"{hit.label} {hit.text}", draft.answer)
        return elsewhere and not says_it and hit.file_id not in self.barred

    def _with_gold(
        self, kind: Kind, draft: Draft, gold: Passage, others: Sequence[Passage]
    ) -> Example:
        shown = [gold, *others[: self.recipe.passages - 1]]
        self.rng.shuffle(shown)
        number = 1 + shown.index(gold)
        return Example(
            kind, draft.question, draft.answer, tuple(shown), number, draft.gold.filename
        )

    def _altered(self, draft: Draft, others: Sequence[Passage]) -> Example | None:
        gold, old = draft.gold, draft.answer
        new = another(old, self.rng, self.names)
        if new is None or holds(gold.label, old) or holds(draft.question, new):
            return None
        if any(holds(passage.text, new) for passage in (gold, *others)):
            return None
        text = replaced(gold.text, old, new)
        if holds(text, old) or not holds(text, new):
            return None
        changed = replace(draft, answer=new)
        return self._with_gold(Kind.COUNTERFACTUAL, changed, replace(gold, text=text), others)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
