"""Lines that say how long a run has taken and about how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Progress:
    """`expected_s` of each section, in the order they run."""

    def __init__(
        self, expected_s: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected_s = expected_s
        self._clock = clock
        self._began = self._entered = clock()
        self._inside: str | None = None

    def enter(self, section: str, words: str) -> None:
        self._inside, self._entered = section, self._clock()
        number = list(self._expected_s).index(section) + 1
        self.say(f"section {number} of {len(self._expected_s)}, {section}: {words}")

    def say(self, line: str) -> None:
        elapsed = self._clock() - self._began
        print(f"{elapsed:6.0f} s, {self.left_s() / 60:3.0f} min left  {line}", flush=True)

    def left_s(self) -> float:
        """Of what is expected; a section that takes longer is counted as about to end."""
        names = list(self._expected_s)
        after = names[names.index(self._inside) + 1 :] if self._inside else names
        inside = self._expected_s[self._inside] if self._inside else 0.0
        spent = self._clock() - self._entered if self._inside else 0.0
        return max(0.0, inside - spent) + sum(self._expected_s[name] for name in after)
