"""What one server adds to the first token's time of another, request by request.

One stream at a time and every server asked the same in turn, so that whatever slows the machine
slows all. The difference of two medians would need far more requests for the same certainty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, islice
from time import process_time

from loadtests.arms import ArmError
from loadtests.client import Answer, Connection
from loadtests.measure import Case, Work
from loadtests.statistics import Estimate, estimate, percentile, ratio

_WARM_UP = 8
_REPORT_EVERY = 50


@dataclass(frozen=True, slots=True)
class Paired:
    """Milliseconds to the first token by case, in the order asked."""

    ttft_ms: Mapping[str, Sequence[float]]
    client_us_per_token: float

    def added_ms(self, case: str, reference: str) -> Estimate:
        """The median of differences between neighbours."""
        pairs = zip(self.ttft_ms[case], self.ttft_ms[reference], strict=True)
        return estimate([ours - theirs for ours, theirs in pairs])

    def ratio(self, case: str, reference: str) -> Estimate:
        return ratio(self.ttft_ms[case], self.ttft_ms[reference])

    def percentile_ms(self, case: str, percent: float) -> float:
        return percentile(self.ttft_ms[case], percent)


async def paired(
    cases: Sequence[Case], work: Work, requests: int, say: Callable[[str], None]
) -> Paired:
    """Each question goes to every case, whose order turns around each time. Some are dropped.

    Raises:
        ArmError: a request failed; a pair without one half is no measurement.
    """
    answers: dict[str, list[Answer]] = {case.name: [] for case in cases}
    cpu_s = process_time()
    with ExitStack() as open_ones:
        connections = {case.name: await _connect(case) for case in cases}
        for connection in connections.values():
            open_ones.callback(connection.close)
        for number, question in enumerate(islice(cycle(work.questions), _WARM_UP + requests), 1):
            for case in cases if number % 2 else cases[::-1]:
                request = case.arm.target.request(work.body(case.model, question))
                answers[case.name].append(await _ask(connections[case.name], case, request))
            if number % _REPORT_EVERY == 0:
                say(f"{number} of {_WARM_UP + requests} questions asked")
    tokens = sum(answer.tokens for found in answers.values() for answer in found)
    client_us = (process_time() - cpu_s) / tokens * 1e6
    return Paired({name: _ttft_ms(found[_WARM_UP:]) for name, found in answers.items()}, client_us)


async def _connect(case: Case) -> Connection:
    loop, target = asyncio.get_running_loop(), case.arm.target
    _, connection = await loop.create_connection(Connection, target.host, target.port)
    return connection


async def _ask(connection: Connection, case: Case, request: bytes) -> Answer:
    answer = await connection.ask(request)
    if answer.error:
        raise ArmError(f"{case.name}: {answer.error}")
    return answer


def _ttft_ms(answers: Sequence[Answer]) -> list[float]:
    return [answer.ttft * 1e3 for answer in answers]
