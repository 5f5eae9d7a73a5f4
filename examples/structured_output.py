"""Asks for JSON of a given schema; the engine can then write nothing else.

The form is certain. What a small model writes into it is another matter.

Export what `make up` prints, then: .venv/bin/python examples/structured_output.py
"""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "maxLength": 60},
        "urgency": {"type": "string", "enum": ["low", "normal", "high"]},
    },
    "required": ["answer", "urgency"],
    "additionalProperties": False,
}
QUESTION = "What does a lost badge cost?"


def main() -> None:
    answer = OpenAI().chat.completions.create(
        model="helpdesk:rag",
        messages=[{"role": "user", "content": QUESTION}],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "ticket", "schema": SCHEMA, "strict": True},
        },
        max_tokens=120,
    )
    ticket = json.loads(answer.choices[0].message.content or "")
    print(f"answer: {ticket['answer']}\nurgency: {ticket['urgency']}")


if __name__ == "__main__":
    main()
