"""Journeys of people who ask: once, in a conversation, of different assistants, of adapters."""

from __future__ import annotations

import logging
import random

from locust import task
from locust.exception import StopUser

from loadtests import options
from loadtests.journeys.reader import QUESTIONS, Reader, user

log = logging.getLogger(__name__)
MODES = ("base", "rag", "fine_tuned", "hybrid", "auto")
SUFFIX = "loadtest"  # of what the fine-tuning journey makes
FOLLOW_UPS = ("Who can tell me more?", "And who pays for that?", "Is there a form for it?")


class SingleQuestion(Reader):
    """One question of the first assistant."""

    weight = 5

    @task  # type: ignore[untyped-decorator]
    def single_question(self) -> None:
        assistant = options.assistants(self.options)[0]
        self.ask(assistant, [user(random.choice(QUESTIONS))], "single question")


class Conversation(Reader):
    """A question and three more, each with all that was said before."""

    weight = 2

    @task  # type: ignore[untyped-decorator]
    def conversation(self) -> None:
        assistant = random.choice(options.assistants(self.options))
        messages = [user(random.choice(QUESTIONS))]
        for turn, follow_up in enumerate((*FOLLOW_UPS, ""), 1):
            answer = self.ask(assistant, messages, f"conversation, turn {turn}")
            messages += [{"role": "assistant", "content": answer or "…"}, user(follow_up)]
            self.wait()


class MixedAssistants(Reader):
    """Every assistant in every mode."""

    weight = 3

    @task  # type: ignore[untyped-decorator]
    def mixed_assistants(self) -> None:
        assistant, mode = random.choice(options.assistants(self.options)), random.choice(MODES)
        self.ask(f"{assistant}:{mode}", [user(random.choice(QUESTIONS))], f"mode {mode}")


class AdapterChurn(Reader):
    """A different adapter for every question, so that those with few slots change all the time."""

    weight = 1

    @task  # type: ignore[untyped-decorator]
    def adapter_churn(self) -> None:
        listed = self.call("GET", "/models", "GET models")["data"]
        versions = adapters([str(model["id"]) for model in listed])
        if not versions:
            log.warning("adapter churn stops: GET /v1/models lists no adapter `name@version`")
            raise StopUser
        version, question = random.choice(versions), user(random.choice(QUESTIONS))
        self.ask(version, [question], "adapter churn", adapter=version)


def adapters(models: list[str]) -> list[str]:
    """Versions of adapters, without what the fine-tuning journey makes and takes away again."""
    return [model for model in models if "@" in model and not model.startswith(f"{SUFFIX}@")]
