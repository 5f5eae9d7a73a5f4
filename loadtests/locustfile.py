"""Load tests with Locust: what users see. `locust -f loadtests/locustfile.py` against `make up`.

Needs OPENAI_BASE_URL and OPENAI_API_KEY. docs/load-testing.md has the journeys, the rows of the
table and the options. For the cost of a token use `make bench`, whose client costs less per token.
"""

from __future__ import annotations

from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.runners import WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadtests import options, shapes
from loadtests.journeys import replay
from loadtests.journeys.documents import Documents
from loadtests.journeys.fine_tuning import FineTune
from loadtests.journeys.questions import (
    AdapterChurn,
    Conversation,
    MixedAssistants,
    SingleQuestion,
)
from loadtests.journeys.replay import Progress, Replay
from loadtests.journeys.rows import summary
from loadtests.timing import Slo

__all__ = [
    "AdapterChurn",
    "Conversation",
    "Documents",
    "FineTune",
    "MixedAssistants",
    "Replay",
    "SingleQuestion",
]

PERIOD_S = 600.0  # of a shape that has no end
Tick = tuple[int, float, list[type]]


class Load(LoadTestShape):  # type: ignore[misc]
    """The number of users as `--shape` says, or the senders of a trace."""

    use_common_options = True

    def tick(self) -> Tick | None:
        given = self.runner.environment.parsed_options
        elapsed: float = self.get_run_time()
        if given.run_time and elapsed >= given.run_time:
            return None
        return self._replay() if given.trace else self._users(given, elapsed)

    def _users(self, given: Any, elapsed: float) -> Tick:
        peak, period = given.num_users or 1, float(given.run_time or PERIOD_S)
        users = shapes.users(given.shape, elapsed, peak, period)
        # Locust waits until all are there: a rate below the shape's own would bend it.
        rate = given.spawn_rate or 1 if given.shape == "steady" else max(users, 1)
        return users, rate, self._journeys(given)

    def _journeys(self, given: Any) -> list[type]:
        left_out = {Replay} if given.fine_tune else {Replay, FineTune}
        return [journey for journey in self.runner.user_classes if journey not in left_out]

    def _replay(self) -> Tick | None:
        count = replay.senders(self.runner)
        if Progress.of(self.runner.environment).done >= count:
            return None
        return count, count, [Replay]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any) -> None:
    options.add(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]
def begin(environment: Any, **_: Any) -> None:
    given, is_worker = environment.parsed_options, isinstance(environment.runner, WorkerRunner)
    problem = options.missing(environment.host)
    if not is_worker:  # a worker has the master's options, later
        problem = problem or options.problem(given)
    if problem:
        raise SystemExit(problem)
    replay.install(environment)

    def conclude(**_: Any) -> None:
        print(summary(environment.stats, Slo.of(environment.parsed_options)))

    def await_last_row(**_: Any) -> None:
        gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)

    if not is_worker:
        environment.events.quit.add_listener(conclude)
        if given.csv_prefix:  # Locust writes its CSV every second and not at the end
            environment.events.quitting.add_listener(await_last_row)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def hand_out(environment: Any, **_: Any) -> None:
    replay.hand_out(environment)
