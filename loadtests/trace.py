"""Recorded arrivals of real requests, to be sent again at the times at which they came.

Two formats: CSV of Azure's LLM inference traces (`TIMESTAMP,ContextTokens,GeneratedTokens`) and
JSON lines of Mooncake's (`timestamp` in ms, `input_length`, `output_length`, `hash_ids` of the
512-token blocks of the prompt). Only times and lengths were recorded; the words are made up here.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from pathlib import Path

import orjson

BLOCK_TOKENS = 512
# Short and common, so that most tokenizers make one token of each.
WORDS = "the time of year is good for a long walk to an old town by sea and we like it so".split()


class TraceError(Exception):
    """The file is no trace that can be read."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: seconds since the trace began, tokens in and out, and the prompt's blocks."""

    at_s: float
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


def read(path: Path) -> list[Arrival]:
    """The arrivals of a file in the order in which they came, the first at 0.

    Raises:
        TraceError: the file is missing, of another format, or empty.
    """
    reader = {".csv": _azure, ".jsonl": _mooncake}.get(path.suffix)
    if reader is None:
        raise TraceError(f"--trace {path}: the name must end in .csv (Azure) or .jsonl (Mooncake)")
    try:
        with path.open(encoding="utf-8") as lines:
            arrivals = sorted(reader(lines), key=lambda arrival: arrival.at_s)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise TraceError(f"--trace {path}: {type(error).__name__}: {error}") from error
    if not arrivals:
        raise TraceError(f"--trace {path}: there is no arrival in it")
    return _from_zero(arrivals)


def cut(arrivals: Sequence[Arrival], start_s: float, seconds: float) -> list[Arrival]:
    """Those from `start_s` on, for `seconds` of the trace (0: to its end).

    Raises:
        TraceError: none came in that time.
    """
    end_s = start_s + seconds if seconds else float("inf")
    kept = [arrival for arrival in arrivals if start_s <= arrival.at_s < end_s]
    if not kept:
        raise TraceError(f"nothing arrived between second {start_s:g} and {end_s:g} of the trace")
    return [replace(arrival, at_s=arrival.at_s - start_s) for arrival in kept]


def schedule(
    arrivals: Sequence[Arrival], speed: float = 1.0, share: int = 0, of: int = 1
) -> Iterator[tuple[float, Arrival]]:
    """When each is due, in seconds from now. Of `of` senders, this is the one numbered `share`."""
    for arrival in arrivals[share::of]:
        yield arrival.at_s / speed, arrival


def prompt(arrival: Arrival, scale: float, limit: int) -> str:
    """Words, about one a token: `scale` times as many as were recorded, at most `limit`.

    The same block gives the same words, so prompts that shared a beginning share one again; without
    blocks no two prompts begin alike.
    """
    length = max(1, min(limit, round(arrival.input_tokens * scale)))
    block = max(1, round(BLOCK_TOKENS * scale))
    seeds: Iterable[object] = arrival.blocks or (repr(arrival),)
    endless = chain(seeds, (f"{arrival.at_s} {n}" for n in range(length)))
    words: list[str] = []
    for seed in endless:
        words += _words(seed, block)
        if len(words) >= length:
            break
    return " ".join(words[:length])


def _words(seed: object, count: int) -> list[str]:
    return random.Random(str(seed)).choices(WORDS, k=count)


def _azure(lines: Iterable[str]) -> Iterator[Arrival]:
    for row in csv.DictReader(lines):
        at = datetime.fromisoformat(row["TIMESTAMP"]).timestamp()
        yield Arrival(at, int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _mooncake(lines: Iterable[str]) -> Iterator[Arrival]:
    for row in map(orjson.loads, lines):
        yield Arrival(
            row["timestamp"] / 1000,
            row["input_length"],
            row["output_length"],
            tuple(row.get("hash_ids", ())),
        )


def _from_zero(arrivals: Sequence[Arrival]) -> list[Arrival]:
    began = arrivals[0].at_s
    return [replace(arrival, at_s=arrival.at_s - began) for arrival in arrivals]
