"""What one loop over a server did as a whole: what was offered, answered, refused and failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.answer import Answer
from loadtests.timing import Slo, Timing


@dataclass(frozen=True, slots=True)
class Load:
    """Every answer of one loop, in the order in which requests were due."""

    answers: Sequence[Answer]
    wall_s: float  # to the end of the last answer
    client_cpu_s: float
    offered_s: float | None = None  # seconds over which requests were due; None: when asked for

    @property
    def tokens(self) -> int:
        return sum(answer.tokens for answer in self.answers)

    @property
    def completed(self) -> list[Answer]:
        return [answer for answer in self.answers if not answer.error]

    @property
    def refused(self) -> list[Answer]:
        """Those that the server turned away on purpose, see `Answer.is_refused`."""
        return [answer for answer in self.answers if answer.is_refused]

    @property
    def errors(self) -> list[str]:
        """What failed, without what was refused."""
        return [answer.error for answer in self.answers if answer.error and not answer.is_refused]

    @property
    def client_share(self) -> float:
        """Of one core. Near 1, times are the client's and not the server's."""
        return self.client_cpu_s / self.wall_s

    @property
    def offered(self) -> float:
        """Requests per second that were due."""
        return len(self.answers) / self._window_s

    def goodput(self, slo: Slo) -> float:
        """Answers per second that were completed and kept every SLO.

        Counted over the time in which requests were due: those due in it and good, however long
        the last one took. An SLO that bounds nothing counts whatever completes in the end.
        """
        return sum(map(slo.is_kept_by, self.completed)) / self._window_s

    def timings(self) -> list[Timing]:
        """In milliseconds, of completed answers."""
        return [Timing.of(answer, answer.ended) for answer in self.completed]

    @property
    def _window_s(self) -> float:
        return self.wall_s if self.offered_s is None else self.offered_s
