"""A user who asks, reads the answer while it is written, and notes how long everything took."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import orjson
from locust import FastHttpUser, between
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS
from locust.exception import RescheduleTask

from loadtests import options
from loadtests.journeys.rows import record
from loadtests.timing import Slo, Stream, Timing

CHAT = "/chat/completions"
QUESTIONS = (
    "Ticket: for how long is my badge valid?",
    "Which company repairs broken laptops?",
    "What does a guest pay for lunch in the canteen?",
    "How many hours is a full working week?",
    "On which day is the coffee with the chief executive?",
)

Message = dict[str, str]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


class Reader(FastHttpUser):  # type: ignore[misc]
    """What all journeys share: streamed answers, and JSON calls that fail in one place."""

    abstract = True
    host = options.BASE_URL
    wait_time = between(0.5, 2.0)
    network_timeout = 120.0
    default_headers = {"Authorization": f"Bearer {options.API_KEY}"}  # noqa: RUF012

    @property
    def options(self) -> Any:
        """Of the command line, or of the web page; workers have the master's."""
        return self.environment.parsed_options

    def ask(
        self,
        model: str,
        messages: Sequence[Message],
        name: str,
        due: float | None = None,
        adapter: str | None = None,
        **sampling: Any,
    ) -> str:
        """One streamed answer, timed from when it was `due` (now, if nobody planned it).

        An answer by another `adapter` than that, if it is given, has failed.
        """
        answer = Stream(time.perf_counter() if due is None else due)
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": self.options.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        with self.client.post(
            CHAT, json=body | sampling, stream=True, catch_response=True, name=name
        ) as response:
            answer.error = _read(response, answer) or _stranger(response, adapter)
            timing = Timing.of(answer, time.perf_counter())
            response.request_meta["response_time"] = timing.e2e
            if answer.error:
                response.failure(answer.error)
                return ""
        record(self.environment.stats, name, timing, Slo.of(self.options))
        return answer.text

    def call(self, method: str, path: str, name: str, **more: Any) -> Any:
        """The JSON that a route answers.

        Raises:
            RescheduleTask: it refused, which is counted; the journey begins anew.
        """
        with self.client.request(method, path, name=name, catch_response=True, **more) as response:
            if response.status_code == 200:
                return orjson.loads(response.content)
            response.failure(_refusal(response))
        raise RescheduleTask

    def upload(self, filename: str, content: bytes, purpose: str = "assistants") -> str:
        """Sends a file; returns its id."""
        form, boundary = _form(filename, content, purpose)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return str(self.call("POST", "/files", "POST file", data=form, headers=headers)["id"])

    def fail(self, name: str, reason: str) -> NoReturn:
        """Counts a failure of what was answered, and begins the journey anew."""
        self.report(name, reason)
        raise RescheduleTask

    def report(self, name: str, reason: str) -> None:
        """Counts a failure that is no single request's."""
        self.environment.events.request.fire(
            request_type="CHECK",
            name=name,
            response_time=0,
            response_length=0,
            exception=AssertionError(reason),
            context={},
        )

    def operate(self, method: str, path: str, name: str) -> Any:
        """Calls a route below `/admin`."""
        return self.call(method, f"{self.host.removesuffix('/v1')}/admin{path}", name)


def _read(response: Any, answer: Stream) -> str | None:
    """Reads the whole answer; returns what was wrong with it."""
    try:
        if response.status_code != 200:
            return _refusal(response)
        answer.receive(response.stream.readline, time.perf_counter)
    except FAILURE_EXCEPTIONS as error:
        return f"{type(error).__name__}: {error}"
    except orjson.JSONDecodeError as error:
        return f"an event is not JSON: {error}"
    return answer.error


def _stranger(response: Any, adapter: str | None) -> str | None:
    """Whose answer it is, if not the one's that was asked."""
    answered = response.headers.get("engram-adapter")
    return None if adapter in (None, answered) else f"answered by {answered}, not by {adapter}"


def _form(filename: str, content: bytes, purpose: str) -> tuple[bytes, str]:
    boundary = secrets.token_hex(16)
    part = f"--{boundary}\r\nContent-Disposition: form-data; name="
    head = f'{part}"purpose"\r\n\r\n{purpose}\r\n{part}"file"; filename="{filename}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode(), boundary


def _refusal(response: Any) -> str:
    return str(response.error or "") if not response.status_code else _status(response)


def _status(response: Any) -> str:
    """Without ids, so that the same refusal is counted as one."""
    try:
        return f"HTTP {response.status_code}: {orjson.loads(response.content)['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
