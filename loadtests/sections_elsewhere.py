"""Sections that are commands of their own, with pages of their own; their values join the rest."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from loadtests import agreement, overload
from loadtests.records import Measured
from loadtests.report import Value, row
from loadtests.section import Options


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The values of another page."""

    key: str
    title: str
    found: Sequence[Value]
    errors: Sequence[str] = ()

    def ratios(self) -> list[str]:
        """All that are ratios, by name, beside a link to the page."""
        return [
            row(
                f"[{one.name.removeprefix(f'{self.key}.')}]({self.key}.md)",
                f"{one.value:.3g}",
                f"{one.ci_low:.3g} – {one.ci_high:.3g}",
                "",
            )
            for one in self.found
            if one.unit == "ratio"
        ]

    def text(self) -> list[str]:
        return []

    def values(self) -> list[Value]:
        return list(self.found)


async def overloaded(options: Options) -> AsyncGenerator[Measured, None]:
    """The knee, twice and five times its rate."""
    given = replace(overload.parse([]), output=options.page("overload"), say=options.say)
    with _by_itself():
        found = await overload.run(given)
    yield Elsewhere("overload", "Overload, open loop", found, overload.failures(found))


async def prompts(options: Options) -> AsyncGenerator[Measured, None]:
    """The order of passages and vLLM's prefix cache."""
    from loadtests import prompt_order  # imports vLLM, which takes a minute

    given = replace(prompt_order.parse([]), output=options.page("prompt_order"), say=options.say)
    with _by_itself():
        found = await prompt_order.run(given)
    yield Elsewhere("prompt_order", "The order of passages", found)


async def clients(options: Options) -> AsyncGenerator[Measured, None]:
    """Locust and the open loop on the same load."""
    given = replace(agreement.parse([]), output=options.page("agreement"), say=options.say)
    with _by_itself():
        found = await agreement.run(given)
    yield Elsewhere("agreement", "Locust beside the open loop", found)


@contextmanager
def _by_itself() -> Iterator[None]:
    """Pages quote their command; a section runs as its command does without arguments."""
    arguments, sys.argv = sys.argv, sys.argv[:1]
    try:
        yield
    finally:
        sys.argv = arguments
