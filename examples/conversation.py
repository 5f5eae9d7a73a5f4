"""A conversation: the second question leans on the first, and retrieval reads both.

Export what `make up` prints, then: .venv/bin/python examples/conversation.py
"""

from __future__ import annotations

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

QUESTIONS = ("What does a lost badge cost?", "And who makes it?")


def main() -> None:
    client = OpenAI()
    messages: list[ChatCompletionMessageParam] = []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        answer = client.chat.completions.create(model="helpdesk", messages=messages)
        text = answer.choices[0].message.content or ""
        messages.append({"role": "assistant", "content": text})
        chosen = (answer.model_extra or {})["engram"]
        leans = " (read with the question before)" if chosen["evidence"]["is_follow_up"] else ""
        print(f"> {question}{leans}\n{text}\n  {chosen['mode']}: {chosen['reason']}\n")


if __name__ == "__main__":
    main()
