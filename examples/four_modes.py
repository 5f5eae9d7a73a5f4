"""Asks the demo assistant one question in each of the four modes, then lets it choose.

Export what `make up` prints, then: .venv/bin/python examples/four_modes.py
"""

from __future__ import annotations

import sys

from openai import OpenAI

MODES = ("base", "rag", "fine_tuned", "hybrid", "auto")
QUESTION = "Ticket: for how long is my badge valid?"


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
    client = OpenAI()  # address and key from the environment
    print(question)
    for mode in MODES:
        answer = client.chat.completions.create(
            model=f"helpdesk:{mode}",
            messages=[{"role": "user", "content": question}],
            temperature=0,
        )
        chosen = (answer.model_extra or {})["engram"]
        print(f"\n{mode} → {chosen['mode']}: {answer.choices[0].message.content}")
        print(f"  why: {chosen['reason']}")


if __name__ == "__main__":
    main()
