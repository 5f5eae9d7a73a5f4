"""Streams an answer and shows its citations as they arrive.

Export what `make up` prints, then: .venv/bin/python examples/stream.py
"""

from __future__ import annotations

import sys

from openai import OpenAI

QUESTION = "Which company repairs broken laptops?"


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else QUESTION
    stream = OpenAI().chat.completions.create(
        model="helpdesk",
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    cited = []
    for chunk in stream:
        if not chunk.choices:  # the last chunk holds usage and timings
            print(f"\n\n{chunk.usage.completion_tokens if chunk.usage else 0} tokens")
            continue
        delta = chunk.choices[0].delta
        print(delta.content or "", end="", flush=True)
        cited += (delta.model_extra or {}).get("annotations", [])
    for citation in cited:
        print(f"[{citation['number']}] {citation['filename']}, up to character {citation['index']}")


if __name__ == "__main__":
    main()
