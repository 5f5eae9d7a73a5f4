"""The gates before a version is promoted: pure functions of how its questions were answered.

An adapter must keep the house's form, be better than the base at its task, and read no worse than
the base does: what the passages say, also where they contradict it, and that they do not say.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.evaluate.modes import contains_any
from serving.finetune.raft import Kind
from serving.types import Mode

MIN_FORM = 0.95
MARGIN = 0.02
RESAMPLES = 2000
LOWER = 0.025  # quantile of the resampled means: one side of a 95 % interval
_REFUSES = re.compile(
    r"\b(?:do(?:es)?n[o']?t|do(?:es)? not) (?:say|mention|contain|state|include|provide|know|have)"
    r"|\bno (?:information|mention)\b|\bnot (?:mentioned|found|stated|given|available|specified)"
    r"|\b(?:cannot|can't|could not|couldn't) (?:find|answer|tell)|\bunable to\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One validation question. `passages` are (label, text); without any, nothing is read."""

    id: str
    kind: Kind
    question: str
    instructions: str = ""
    passages: tuple[tuple[str, str], ...] = ()
    accept: tuple[str, ...] = ()
    refusal: str = ""
    form: str | None = None

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Those that can be asked."""
        return tuple(Mode) if self.passages else (Mode.BASE, Mode.FINE_TUNED)


@dataclass(frozen=True, slots=True)
class Judged:
    """How one answer was; `form` is None where none is due."""

    value: bool
    refused: bool
    form: bool | None

    @property
    def right(self) -> bool:
        return self.value and self.form is not False


Results = Mapping[str, Mapping[Mode, Judged]]  # by question id


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what was measured, what was needed, and so whether it holds."""

    name: str
    passed: bool
    measured: float | None
    needed: float | None
    questions: int
    reason: str


def read(file: Path) -> list[Asked]:
    """The questions that `engram finetune prepare` wrote.

    Raises:
        ValueError: names the line that is malformed.
    """
    found = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(text)
            passages = tuple((p["label"], p["text"]) for p in row.get("passages", ()))
            found.append(
                Asked(
                    str(row["id"]),
                    Kind(row["kind"]),
                    row["question"],
                    row.get("instructions", ""),
                    passages,
                    tuple(row.get("accept", ())),
                    row.get("refusal", ""),
                    row.get("form"),
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file.name}, line {number}: {error!r}") from None
    if not found:
        raise ValueError(f"{file.name} holds no questions")
    if len({asked.id for asked in found}) != len(found):
        raise ValueError(f"{file.name}: two questions have the same 'id'")
    return found


def judge(asked: Asked, text: str) -> Judged:
    """Scores one answer."""
    house = asked.refusal.casefold().rstrip(".")
    refused = bool(house and house in text.casefold()) or _REFUSES.search(text) is not None
    value = bool(asked.accept) and contains_any(text, asked.accept)
    form = None if asked.form is None else re.search(asked.form, text.strip()) is not None
    return Judged(value, refused and not value, form)


def gates(questions: Sequence[Asked], results: Results) -> list[Gate]:
    """Every gate, in the order in which they are worth reading."""
    return [
        _form(questions, results),
        _task(questions, results),
        _no_worse("reading", Kind.ANSWERED, "right values", _value, questions, results),
        _no_worse("following", Kind.COUNTERFACTUAL, "values followed", _value, questions, results),
        _no_worse("refusing", Kind.UNANSWERABLE, "refusals", _refused, questions, results),
    ]


def _tuned(asked: Asked) -> tuple[Mode, Mode]:
    """The mode with the adapter, and the same without it."""
    return (Mode.HYBRID, Mode.RAG) if asked.passages else (Mode.FINE_TUNED, Mode.BASE)


def _form(questions: Sequence[Asked], results: Results) -> Gate:
    found = [results[q.id][_tuned(q)[0]].form for q in questions if q.form is not None]
    if not found:
        return _unmeasured("form", "a 'form'")
    share = _share([form is True for form in found])
    reason = f"{share:.1%} of the answers have the house's form"
    return Gate("form", share >= MIN_FORM, share, MIN_FORM, len(found), reason)


def _task(questions: Sequence[Asked], results: Results) -> Gate:
    """Right in value and form, with the adapter against without, question by question."""
    pairs = [
        (results[q.id][with_adapter].right, results[q.id][without].right)
        for q in questions
        if q.accept
        for with_adapter, without in [_tuned(q)]
    ]
    if not pairs:
        return _unmeasured("task", "'accept'")
    differences = [int(tuned) - int(base) for tuned, base in pairs]
    low = lower_bound(differences)
    tuned, base = _share([t for t, _ in pairs]), _share([b for _, b in pairs])
    reason = f"right {tuned:.1%} with the adapter, {base:.1%} without; the gain is above {low:+.1%}"
    return Gate("task", low > 0, low, 0.0, len(pairs), reason)


def _no_worse(
    name: str,
    kind: Kind,
    what: str,
    of: Callable[[Judged], bool],
    questions: Sequence[Asked],
    results: Results,
) -> Gate:
    mine = [q for q in questions if q.kind is kind and q.passages]
    if not mine:
        return _unmeasured(name, f"the kind '{kind}' with passages")
    hybrid = _share([of(results[q.id][Mode.HYBRID]) for q in mine])
    rag = _share([of(results[q.id][Mode.RAG]) for q in mine])
    reason = f"{what}: {hybrid:.1%} in hybrid, {rag:.1%} in rag without the adapter"
    needed = rag - MARGIN
    return Gate(name, hybrid >= needed - 1e-9, hybrid, needed, len(mine), reason)


def _value(judged: Judged) -> bool:
    return judged.value


def _refused(judged: Judged) -> bool:
    return judged.refused


def _unmeasured(name: str, what: str) -> Gate:
    return Gate(name, False, None, None, 0, f"not measured: no question has {what}")


def lower_bound(differences: Sequence[int], seed: int = 0) -> float:
    """Of the mean, by the paired bootstrap."""
    rng = random.Random(seed)
    count = len(differences)
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(RESAMPLES))
    return means[int(LOWER * RESAMPLES)]


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def by_mode(questions: Sequence[Asked], results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Kind → mode → shares of right values, of refusals and of the right form."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for kind in dict.fromkeys(q.kind for q in questions):
        table[kind] = {}
        for mode in Mode:
            mine = [results[q.id][mode] for q in questions if q.kind is kind and mode in q.modes]
            if mine:
                table[kind][mode] = {
                    "questions": len(mine),
                    "value": round(_share([one.value for one in mine]), 4),
                    "refused": round(_share([one.refused for one in mine]), 4),
                    "form": round(_share([one.form is True for one in mine]), 4),
                }
    return table


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured of one version. A waived gate need not hold; somebody answers for that."""

    adapter: str
    questions: Sequence[Asked]
    results: Results
    gates: Sequence[Gate]
    waived: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(gate.passed or gate.name in self.waived for gate in self.gates)

    def as_json(self) -> dict[str, Any]:
        return {
            "adapter": self.adapter,
            "passed": self.passed,
            "waived": [*self.waived],
            "gates": [asdict(gate) for gate in self.gates],
            "modes": by_mode(self.questions, self.results),
        }

    def as_markdown(self) -> str:
        lines = ["| questions | mode | n | right value | refused | right form |", "|---" * 6 + "|"]
        for kind, modes in by_mode(self.questions, self.results).items():
            for mode, row in modes.items():
                shares = " | ".join(f"{row[name]:.0%}" for name in ("value", "refused", "form"))
                lines.append(f"| {kind} | {mode} | {row['questions']:.0f} | {shares} |")
        lines += ["", "| gate | | why |", "|---|---|---|"]
        lines += [f"| {g.name} | {self._verdict(g)} | {g.reason} |" for g in self.gates]
        said = "may be promoted" if self.passed else "stays as it is"
        return "\n".join([*lines, "", f"{self.adapter}: {said}"])

    def _verdict(self, gate: Gate) -> str:
        if gate.passed:
            return "pass"
        return "waived" if gate.name in self.waived else "FAIL"
