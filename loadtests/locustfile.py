"""User journeys for Locust: one question, a conversation, and questions in every mode.

`locust -f loadtests/locustfile.py` against `make up`, with OPENAI_BASE_URL and OPENAI_API_KEY from
the environment. Shows users' waiting times live; for the cost of a token use `make bench`, since
this client costs twice as much per token as that one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from locust import FastHttpUser, between

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1").rstrip("/")
API_KEY = os.environ.get("OPENAI_API_KEY", "")
ASSISTANT = os.environ.get("LOADTEST_ASSISTANT", "helpdesk")
MODES = ("base", "rag", "fine_tuned", "hybrid", "auto")
MAX_TOKENS = 64
CHAT = "/chat/completions"
QUESTIONS = (
    "Ticket: for how long is my badge valid?",
    "Which company repairs broken laptops?",
    "What does a guest pay for lunch in the canteen?",
    "How many hours is a full working week?",
    "On which day is the coffee with the chief executive?",
)
FOLLOW_UPS = ("Who can tell me more?", "And who pays for that?", "Is there a form for it?")

Message = dict[str, str]


class AnswerError(Exception):
    """The stream ended with an error, or without an end."""


class Reader(FastHttpUser):  # type: ignore[misc]
    """Asks, reads the answer while it is written, thinks, and asks again."""

    host = BASE_URL
    wait_time = between(0.5, 2.0)
    network_timeout = 120.0
    default_headers = {"Authorization": f"Bearer {API_KEY}"}  # noqa: RUF012

    def single_question(self) -> None:
        self.ask(ASSISTANT, [_user(random.choice(QUESTIONS))], "single question")

    def conversation(self) -> None:
        messages = [_user(random.choice(QUESTIONS))]
        for follow_up in FOLLOW_UPS:
            answer = self.ask(ASSISTANT, messages, "conversation")
            messages += [{"role": "assistant", "content": answer or "…"}, _user(follow_up)]
            self.wait()

    def mixed_modes(self) -> None:
        mode = random.choice(MODES)
        self.ask(f"{ASSISTANT}:{mode}", [_user(random.choice(QUESTIONS))], f"mode {mode}")

    def ask(self, model: str, messages: Sequence[Message], name: str) -> str:
        """One streamed answer, reported as a request and, by its first text, as `TTFT`."""
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": MAX_TOKENS,
            "stream": True,
        }
        began, text = time.perf_counter(), ""
        with self.client.post(
            CHAT, json=body, stream=True, catch_response=True, name=name
        ) as reply:
            if reply.status_code != 200:
                reply.failure(f"HTTP {reply.status_code}: {reply.text}")
                return text
            try:
                for piece in pieces(reply.stream.readline):
                    if not text:
                        self._report_ttft(name, time.perf_counter() - began, model)
                    text += piece
            except AnswerError as error:
                reply.failure(str(error))
            reply.request_meta["response_time"] = (time.perf_counter() - began) * 1000
        return text

    tasks = {single_question: 5, conversation: 2, mixed_modes: 3}  # noqa: RUF012

    def _report_ttft(self, name: str, seconds: float, model: str) -> None:
        self.environment.events.request.fire(
            request_type="TTFT",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=None,
            context={"model": model},
        )


def pieces(readline: Callable[[bytes], bytes]) -> Iterator[str]:
    """The text of an event stream, piece by piece, read to its end so that the connection is kept.

    Raises:
        AnswerError: the stream holds an error, or stops before `[DONE]`.
    """
    done = False
    while line := readline(b"\n"):
        payload = line.removeprefix(b"data:").strip()
        if payload == b"[DONE]":
            done = True
        elif payload and line.startswith(b"data:"):
            yield from _texts(orjson.loads(payload))
    if not done:
        raise AnswerError("the stream stopped before its end")


def _texts(chunk: Mapping[str, Any]) -> Iterator[str]:
    if error := chunk.get("error"):
        raise AnswerError(error.get("message", "error"))
    for choice in chunk.get("choices", ()):
        if text := choice.get("delta", {}).get("content"):
            yield text


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
