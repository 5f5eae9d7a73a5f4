"""Training files in a few lines."""

from __future__ import annotations

import json
from typing import Any


def jsonl(*lines: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def chat(*texts: str, system: str | None = None, **more: Any) -> dict[str, Any]:
    """A line whose texts are said by user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, **more}


def said(text: str, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def preference(asked: str, preferred: str, rejected: str) -> dict[str, Any]:
    return {
        "input": {"messages": [said(asked, "user")]},
        "preferred_output": [said(preferred)],
        "non_preferred_output": [said(rejected)],
    }


def chats(count: int = 10) -> list[dict[str, Any]]:
    return [chat(f"What is {n}?", f"It is {n}. Yours, Ada.") for n in range(count)]
