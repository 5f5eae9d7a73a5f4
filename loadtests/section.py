"""What every section of the benchmark is given, and what it gives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.arms import Arm, ArmError
from loadtests.measure import Case, Work, measure
from loadtests.records import Measured
from loadtests.tables import Comparison, Table

QUESTIONS = (
    "What is the name of the form for parental leave?",
    "How many hours is a full working week?",
    "From which day of sick leave is a doctor's note needed?",
    "What does a guest pay for lunch in the canteen?",
    "What is the phone number of the support desk?",
    "How high can the yearly bonus be?",
    "How long is my badge valid?",
    "Which company repairs broken laptops?",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    sections: Sequence[str]
    full: bool
    arms: Sequence[str]
    repeats: int
    seconds: float
    max_tokens: int
    output: Path
    results: Path
    say: Callable[[str], None]

    def work(self, streams: int, questions: Sequence[str] = QUESTIONS) -> Work:
        return Work(questions, streams, self.seconds, self.max_tokens)

    def page(self, name: str) -> Path:
        """Of a section that writes its own, beside ours."""
        return self.output.with_name(f"{name}.md")

    def chosen(self, arms: Sequence[Arm]) -> list[Arm]:
        """Raises ArmError if none of these is wanted."""
        if wanted := [arm for arm in arms if arm.name in self.arms]:
            return wanted
        raise ArmError(f"--arms names none of {', '.join(arm.name for arm in arms)}")


@dataclass(frozen=True, slots=True)
class Section:
    """`quick_s`, `full_s`: how long it takes on two cores, to say what is left; 0: only in full."""

    words: str
    tables: Callable[[Options], AsyncGenerator[Measured, None]]
    quick_s: float
    full_s: float

    def expected_s(self, full: bool) -> float:
        return self.full_s if full else self.quick_s


async def loaded(
    options: Options,
    cases: Sequence[Case],
    work: Work,
    words: tuple[str, str, str],
    compared: Sequence[Comparison],
) -> Table:
    """Loads the cases in turn; `words` are the table's key, title and explanation."""
    options.say(words[1])
    measured = await measure(cases, work, options.repeats, options.say)
    return Table(*words, work, options.repeats, measured, compared)


def cases_of(arms: Sequence[Arm]) -> list[Case]:
    """Each asked for the base model."""
    return [Case(arm.name, arm, arm.engine.served_name) for arm in arms]
