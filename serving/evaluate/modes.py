"""Asks a company's own questions in every mode and says which mode could answer.

Drives a running server over HTTP, so that what is measured is what an app would get: retrieval,
chat template, engine, citations and all. Temperature 0.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

from serving.types import Mode

AUTO = "auto"
MODES = (*Mode, AUTO)
CONCURRENT = 8
TIMEOUT_S = 120.0
_MARKER = re.compile(r"\s?\[\d{1,2}\]")


@dataclass(frozen=True, slots=True)
class Item:
    """One question of the file, with what a right answer holds."""

    id: str
    kind: str
    messages: tuple[dict[str, str], ...]
    accept: tuple[str, ...]
    form: str | None
    file: str | None
    modes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one item went in one mode; `form` and `cited` are None where nothing was asked."""

    item: Item
    asked: str
    mode: str
    text: str
    value: bool
    form: bool | None
    cited: bool | None

    @property
    def right(self) -> bool:
        """Right value, in the right form where one is due."""
        return self.value and self.form is not False

    @property
    def able(self) -> bool:
        """Whether the mode taken is one of those able to answer."""
        return self.mode in self.item.modes


def read(file: Path) -> list[Item]:
    """Reads a questions file; raises ValueError naming the line that is malformed."""
    items = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            messages = row.get("messages") or [{"role": "user", "content": row["question"]}]
            items.append(
                Item(
                    row["id"],
                    row["kind"],
                    tuple(messages),
                    tuple(row["accept"]),
                    row["form"],
                    row["file"],
                    frozenset(row["modes"]),
                )
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{file.name}, line {number}: {error!r}") from None
    return items


class Evaluation:
    """Asks every item in every mode, a few at a time."""

    def __init__(self, url: str, api_key: str, model: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {api_key}"}, timeout=TIMEOUT_S
        )
        self._model = model
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def run(
        self, items: Sequence[Item], modes: Iterable[str], done: Callable[[], None]
    ) -> list[Outcome]:
        """Every outcome, in order; `done` is called after each.

        Raises:
            httpx.HTTPStatusError: the server refused a question.
        """
        async with self._client:
            tasks = [self._ask(item, mode, done) for mode in modes for item in items]
            return await asyncio.gather(*tasks)

    async def _ask(self, item: Item, mode: str, done: Callable[[], None]) -> Outcome:
        body = {"model": f"{self._model}:{mode}", "messages": item.messages, "temperature": 0}
        async with self._slots:
            response = await self._client.post("/chat/completions", json=body)
        response.raise_for_status()
        done()
        return judge(item, mode, response.json())


def judge(item: Item, asked: str, answer: dict[str, Any]) -> Outcome:
    """Scores one chat completion."""
    message = answer["choices"][0]["message"]
    text = message["content"]
    names = {PurePosixPath(a["filename"]).name for a in message.get("annotations", ())}
    return Outcome(
        item=item,
        asked=asked,
        mode=answer["engram"]["mode"],
        text=text,
        value=contains_any(text, item.accept),
        form=None if item.form is None else re.search(item.form, text.strip()) is not None,
        cited=None if item.file is None else PurePosixPath(item.file).name in names,
    )


def contains_any(text: str, accept: Iterable[str]) -> bool:
    """Whether one of the strings is in the text as whole words, markers and case aside."""
    plain = _normal(text)
    return any(re.search(rf"(?<!\w){re.escape(_normal(a))}(?!\w)", plain) for a in accept)


def _normal(text: str) -> str:
    return " ".join(_MARKER.sub("", text).casefold().split())


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; shares in [0, 1], None where the question does not arise."""

    kind: str
    asked: str
    count: int
    value: float
    form: float | None
    cited: float | None
    right: float
    able: float


def summarize(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    """One row per kind and mode, and one per mode over all kinds."""
    kinds = [*dict.fromkeys(o.item.kind for o in outcomes)]
    for asked in dict.fromkeys(o.asked for o in outcomes):
        mine = [o for o in outcomes if o.asked == asked]
        for kind in kinds:
            yield _row(kind, asked, [o for o in mine if o.item.kind == kind])
        yield _row("all", asked, mine)


def _row(kind: str, asked: str, outcomes: Sequence[Outcome]) -> Row:
    value = _share([o.value for o in outcomes])
    right = _share([o.right for o in outcomes])
    able = _share([o.able for o in outcomes])
    assert value is not None and right is not None and able is not None
    return Row(
        kind,
        asked,
        len(outcomes),
        value,
        _share([o.form for o in outcomes if o.form is not None]),
        _share([o.cited for o in outcomes if o.cited is not None]),
        right,
        able,
    )


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| asked for | questions | n | right value | right form | right file cited | value and form"
        " | mode able |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shares = (row.value, row.form, row.cited, row.right, row.able)
        cells = ("–" if share is None else f"{share:.0%}" for share in shares)
        lines.append(f"| {row.asked} | {row.kind} | {row.count} | {' | '.join(cells)} |")
    return "\n".join(lines)
