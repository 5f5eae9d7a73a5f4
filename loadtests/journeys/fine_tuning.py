"""A journey of a tenant that trains: one job after another, each adapter taken away again."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import gevent
import orjson
from locust import task
from locust.exception import RescheduleTask

from loadtests.journeys.questions import SUFFIX
from loadtests.journeys.reader import QUESTIONS, Message, Reader, user
from loadtests.journeys.rows import note

POLL_S = 2.0
ENDED = ("succeeded", "failed", "cancelled")
EXAMPLES = 12


class FineTune(Reader):
    """One of these at most, however many users there are."""

    fixed_count = 1
    file: str | None = None
    job: dict[str, Any] | None = None

    @task  # type: ignore[untyped-decorator]
    def fine_tune(self) -> None:
        began = time.perf_counter()
        self.file = self.upload("loadtest.jsonl", training_file(), "fine-tune")
        self.job = self._start(self.file)
        while self.job["status"] not in ENDED:
            gevent.sleep(POLL_S)
            self.job = self.call("GET", self._path(), "GET fine-tuning job")
        if self.job["status"] != "succeeded":
            self.fail("fine-tuning job", str(self.job["status"]))
        note(self.environment.stats, "JOB", "fine-tuning job", (time.perf_counter() - began) * 1e3)
        self._tidy()

    def on_stop(self) -> None:
        with suppress(RescheduleTask):  # it was counted
            if self.job is not None and self.job["status"] not in ENDED:
                path = f"{self._path()}/cancel"
                self.job = self.call("POST", path, "POST cancel fine-tuning job")
            self._tidy()

    def _start(self, file: str) -> dict[str, Any]:
        body = {
            "model": self.options.fine_tune,
            "training_file": file,
            "suffix": SUFFIX,
            "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}},
        }
        path, name = "/fine_tuning/jobs", "POST fine-tuning job"
        job: dict[str, Any] = self.call("POST", path, name, json=body)
        return job

    def _path(self) -> str:
        assert self.job is not None
        return f"/fine_tuning/jobs/{self.job['id']}"

    def _tidy(self) -> None:
        """Takes the adapter and the file away, so that a long run leaves nothing behind."""
        job, file, self.job, self.file = self.job, self.file, None, None
        if job is not None and (adapter := job.get("fine_tuned_model")):
            self.operate("POST", f"/adapters/{adapter}/retire", "POST retire adapter")
            self.operate("DELETE", f"/adapters/{adapter}", "DELETE adapter")
        if file is not None:
            self.call("DELETE", f"/files/{file}", "DELETE file")


def training_file() -> bytes:
    return b"".join(orjson.dumps({"messages": _example(n)}) + b"\n" for n in range(EXAMPLES))


def _example(number: int) -> list[Message]:
    question = user(QUESTIONS[number % len(QUESTIONS)])
    return [question, {"role": "assistant", "content": f"The front desk knows, line {number}."}]
