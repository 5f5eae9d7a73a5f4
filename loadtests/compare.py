"""`python -m loadtests.compare`: what moved between two runs beyond their noise.

A value moved if the two 95 % intervals do not touch and it changed by more than a stated share.
Ratios and CPU can be compared between runs on one kind of machine; times and requests/s only
between calm ones. With no files named: this machine's baseline against the latest results.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from loadtests.report import Value, hardware
from serving.settings import ROOT

LATEST = ROOT / "loadtests/results/latest.json"
BASELINES = ROOT / "loadtests/baselines"
SHARE = 0.1
_MORE_IS_BETTER = ("tokens_per_s", "goodput", "right_minus")


@dataclass(frozen=True, slots=True)
class Move:
    """One value that is another than before."""

    before: Value
    after: Value

    @property
    def share(self) -> float:
        return (self.after.value - self.before.value) / abs(self.before.value or 1.0)

    @property
    def is_worse(self) -> bool:
        return (self.share < 0) == more_is_better(self.before.name)

    def __str__(self) -> str:
        word = "worse " if self.is_worse else "better"
        return (
            f"{word}  {self.share:+7.1%}  {self.before.name}: "
            f"{_said(self.before)} → {_said(self.after)}"
        )


def moves(before: Sequence[Value], after: Sequence[Value], share: float) -> list[Move]:
    """Those beyond noise, the largest first."""
    known = {value.name: value for value in before}
    pairs = (Move(known[value.name], value) for value in after if value.name in known)
    found = [move for move in pairs if abs(move.share) > share and not _overlap(move)]
    return sorted(found, key=lambda move: -abs(move.share))


def more_is_better(name: str) -> bool:
    """Of a cost less is better, of a rate more; a ratio over Engram turns it around."""
    good = any(word in name for word in _MORE_IS_BETTER)
    return good != ("_over_engram" in name)


def read(path: Path) -> list[Value]:
    """
    Raises:
        SystemExit: there is no such file, or it is no list of values.
    """
    try:
        return [Value(**one) for one in orjson.loads(path.read_bytes())]
    except FileNotFoundError:
        raise SystemExit(
            f"compare: {path} is not there: run `make bench-full`, and `--accept` for a baseline"
        ) from None
    except (ValueError, TypeError) as error:
        raise SystemExit(f"compare: {path} is no list of values: {error}") from None


def baseline_of(machine: str) -> Path:
    """One file for each kind of machine: `amd-epyc-2-cores-24-gib-linux.json`."""
    return BASELINES / f"{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"


def _overlap(move: Move) -> bool:
    before, after = move.before, move.after
    return before.ci_low <= after.ci_high and after.ci_low <= before.ci_high


def _said(value: Value) -> str:
    return f"{value.value:.4g} {value.unit} ({value.ci_low:.4g} – {value.ci_high:.4g})"


def _summary(before: Sequence[Value], after: Sequence[Value], moved: int) -> str:
    both = len({value.name for value in before} & {value.name for value in after})
    return (
        f"{both} values compared, {moved} moved beyond noise; "
        f"{len(after) - both} new, {len(before) - both} not measured"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.compare", description=__doc__)
    add = parser.add_argument
    known = baseline_of(hardware())
    add("baseline", nargs="?", type=Path, default=known, help=f"values before ({known.name})")
    add("latest", nargs="?", type=Path, default=LATEST, help="and after (results/latest.json)")
    add("--share", type=float, default=SHARE, help="a smaller change is not shown (0.1)")
    add("--fail", action="store_true", help="end with 1 if anything got worse")
    add("--accept", action="store_true", help="make the latest results this baseline")
    given = parser.parse_args(arguments)
    if given.accept:
        read(given.latest)
        given.baseline.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given.latest, given.baseline)
        print(f"{given.baseline} is now what {given.latest} says")
        return 0
    before, after = read(given.baseline), read(given.latest)
    found = moves(before, after, given.share)
    for move in found:
        print(move)
    print(_summary(before, after, len(found)))
    return 1 if given.fail and any(move.is_worse for move in found) else 0


if __name__ == "__main__":
    sys.exit(main())
