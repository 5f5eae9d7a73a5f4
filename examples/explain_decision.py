"""Reads afterwards, from the server's record, why a request was answered the way it was.

Needs a key with the scope `admin`, as the demo's key has.

Export what `make up` prints, then: .venv/bin/python examples/explain_decision.py
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import httpx
from openai import OpenAI

QUESTION = "Which company repairs broken laptops?"
BASE_URL, KEY = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]


def main() -> None:
    answer = OpenAI().chat.completions.create(
        model="helpdesk", messages=[{"role": "user", "content": QUESTION}]
    )
    request_id = (answer.model_extra or {})["engram"]["request_id"]
    print(answer.choices[0].message.content)
    print(json.dumps(record_of(request_id), indent=2))


def record_of(request_id: str) -> dict[str, Any]:
    """The record is written behind the answer, so it may come a moment later."""
    url = f"{BASE_URL.removesuffix('/v1')}/admin/decisions/{request_id}"
    for _ in range(20):
        response = httpx.get(url, headers={"Authorization": f"Bearer {KEY}"})
        if response.status_code != httpx.codes.NOT_FOUND:
            break
        time.sleep(0.1)
    record: dict[str, Any] = response.raise_for_status().json()
    return record


if __name__ == "__main__":
    main()
