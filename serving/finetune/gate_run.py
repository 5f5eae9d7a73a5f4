"""Asks a running server the gate's questions in every mode, through the version to be judged.

The passages go with the request, so that every mode that reads reads the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from serving.finetune.gates import Asked, Judged, judge
from serving.finetune.server import Server
from serving.remote import ServerError
from serving.types import Mode

One = tuple[Asked, Mode]
Each = Callable[[str, Callable[[One], Judged], Sequence[One]], list[Judged]]


def ask_all(
    server: Server, adapter: str, questions: Sequence[Asked], each: Each
) -> dict[str, dict[Mode, Judged]]:
    """How every question was answered in every mode that it can be asked in.

    Raises:
        ServerError: the server refused one.
    """
    work = [(asked, mode) for asked in questions for mode in asked.modes]

    def ask(one: One) -> Judged:
        asked, mode = one
        answer = server.call("POST", "/v1/chat/completions", json=request(adapter, asked, mode))
        if mode.adapts and answer["engram"]["adapter"] is None:
            raise ServerError(f"{adapter} did not answer itself: {answer['engram']['reason']}")
        return judge(asked, answer["choices"][0]["message"].get("content") or "")

    results: dict[str, dict[Mode, Judged]] = {asked.id: {} for asked in questions}
    for (asked, mode), judged in zip(work, each("asking", ask, work), strict=True):
        results[asked.id][mode] = judged
    return results


def request(adapter: str, asked: Asked, mode: Mode) -> dict[str, Any]:
    """One question as it would be served; `mode` wins over what the name means by itself."""
    messages = [{"role": "user", "content": asked.question}]
    if asked.instructions:
        messages.insert(0, {"role": "system", "content": asked.instructions})
    engram: dict[str, Any] = {"mode": mode, "vector_store_ids": []}
    if mode.retrieves:
        engram["documents"] = [
            {"id": f"passage-{number}", "title": label, "text": text}
            for number, (label, text) in enumerate(asked.passages, 1)
        ]
        engram["max_num_results"] = len(asked.passages)
    return {"model": adapter, "messages": messages, "temperature": 0, "engram": engram}
