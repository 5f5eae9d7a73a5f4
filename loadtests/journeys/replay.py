"""Sends a trace again: an open loop, so that a slow server does not slow the arrivals down.

One user per worker sends the worker's share, every answer timed from when its request was due. The
master tells each worker its share by message, and ends the test when all have said they are done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import constant, task
from locust.runners import MasterRunner, WorkerRunner

from loadtests import options, trace
from loadtests.journeys.reader import Reader, user
from loadtests.trace import Arrival

SHARE, DONE = "replay share", "replay done"
LEAD_S = 0.01  # what a request needs before it can be sent is made ready within that
TIMER_S = 0.001  # gevent's clock counts milliseconds
ANSWERS_AT_ONCE = 100_000  # no bound: a client that waits for a connection is no open loop


class Replay(Reader):
    """Not a person: one of these asks for many."""

    concurrency = ANSWERS_AT_ONCE
    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]
    def replay(self) -> None:
        try:
            self._send(options.arrivals(self.options))
        except trace.TraceError as error:  # a worker's machine may lack the file
            self.report("replay", str(error))
        self.environment.runner.send_message(DONE, {})
        Event().wait()  # for the end of the test

    def _send(self, arrivals: Sequence[Arrival]) -> None:
        share = Progress.of(self.environment).share
        asked, began = Group(), time.perf_counter()
        for offset, arrival in trace.schedule(arrivals, self.options.trace_speed, *share):
            due = began + offset
            gevent.sleep(max(0.0, due - LEAD_S - time.perf_counter()))
            asked.spawn(self._ask, arrival, due)
        asked.join()

    def _ask(self, arrival: Arrival, due: float) -> None:
        names, scale = options.assistants(self.options), self.options.trace_scale
        words = trace.prompt(arrival, scale, self.options.trace_max_input)
        tokens = max(1, min(self.options.max_tokens, round(arrival.output_tokens * scale)))
        # By its time, so that every speed and number of workers asks the same of the same.
        model = names[round(arrival.at_s * 1000) % len(names)]
        _await(due)
        self.ask(model, [user(words)], "replay", due, max_tokens=tokens, ignore_eos=True)


def _await(due: float) -> None:
    """Until that time of `perf_counter`, more exactly than a timer does."""
    gevent.sleep(max(0.0, due - TIMER_S - time.perf_counter()))
    while time.perf_counter() < due:
        gevent.sleep(0)


class Progress:
    """Of one process: its own share of the trace, and, on the master, how many senders are done."""

    def __init__(self) -> None:
        self.share = (0, 1)
        self.done = 0

    @staticmethod
    def of(environment: Any) -> Progress:
        progress: Progress = environment.replay_progress
        return progress


def senders(runner: Any) -> int:
    return len(_ready(runner)) if isinstance(runner, MasterRunner) else 1


def install(environment: Any) -> None:
    """Prepares one process, of whichever kind, to take part in a replay."""
    environment.replay_progress = Progress()
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(SHARE, _take_share)
    else:
        runner.register_message(DONE, _count_done)


def hand_out(environment: Any) -> None:
    """Before users are spawned: every worker gets its own share."""
    if isinstance(environment.runner, WorkerRunner):
        return
    Progress.of(environment).done = 0
    if isinstance(environment.runner, MasterRunner):
        ready = _ready(environment.runner)
        for number, worker in enumerate(ready):
            environment.runner.send_message(SHARE, [number, len(ready)], worker.id)


def _ready(runner: Any) -> list[Any]:
    return [*runner.clients.ready, *runner.clients.spawning, *runner.clients.running]


def _take_share(environment: Any, msg: Any) -> None:
    Progress.of(environment).share = tuple(msg.data)


def _count_done(environment: Any, msg: Any) -> None:  # noqa: ARG001
    Progress.of(environment).done += 1
