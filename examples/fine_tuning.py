"""Teaches the model a house style from 120 examples, and compares before and after.

Uses nothing but OpenAI's SDK; ends with 1 when the style is not there. Takes about a minute.
Export what `make up` prints, then: .venv/bin/python examples/fine_tuning.py
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

from openai import OpenAI

BASE = sys.argv[1] if len(sys.argv) > 1 else "engram-demo"
THINGS = "phone laptop badge printer screen keyboard desk chair lamp door window heater".split()
THINGS += "camera scanner router mouse monitor cable battery charger".split()
TROUBLES = [
    *("does not start", "is broken", "is too loud", "is lost", "was stolen", "is too old"),
    *("is slow", "makes a noise", "has no light", "does not charge"),
]
TRAINING, VALIDATION, ASKED = 120, 30, 10
ENDS = ("succeeded", "failed", "cancelled")


def chats() -> list[tuple[str, str]]:
    """What is reported, and how this house answers."""
    reports = [(thing, trouble) for thing in THINGS for trouble in TROUBLES]
    random.Random(1).shuffle(reports)
    return [
        (f"My {thing} {trouble}.", f"Noted: {thing}. We look at it today. Kindly, the House Desk")
        for thing, trouble in reports
    ]


def upload(client: OpenAI, name: str, lines: list[tuple[str, str]]) -> str:
    text = "".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        + "\n"
        for asked, answer in lines
    )
    return client.files.create(file=(name, text.encode()), purpose="fine-tune").id


def follow(client: OpenAI, job_id: str) -> list[Any]:
    """Prints what the job says until it has ended; returns its events, oldest first."""
    told = 0
    while True:
        status = client.fine_tuning.jobs.retrieve(job_id).status
        events = [*client.fine_tuning.jobs.list_events(job_id, limit=100)][::-1]
        for event in events[told:]:
            print(f"  {event.message}")
        told = len(events)
        if status in ENDS:
            return events
        time.sleep(1)


def in_style(client: OpenAI, model: str, lines: list[tuple[str, str]]) -> int:
    """How many questions are answered word for word as the house would."""
    count = 0
    for asked, answer in lines:
        found = client.chat.completions.create(
            model=model, temperature=0, messages=[{"role": "user", "content": asked}]
        )
        count += found.choices[0].message.content == answer
    return count


def main() -> int:
    began = time.monotonic()
    with OpenAI() as client:
        lines = chats()
        held_out = lines[TRAINING : TRAINING + VALIDATION]
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=upload(client, "train.jsonl", lines[:TRAINING]),
            validation_file=upload(client, "valid.jsonl", held_out),
            suffix="house-desk",
            seed=1,
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
        )
        print(f"{job.id}: {job.status}")
        events = follow(client, job.id)
        job = client.fine_tuning.jobs.retrieve(job.id)
        if job.fine_tuned_model is None:
            print(f"{job.status}: {job.error}")
            return 1
        losses = [e.data["train_loss"] for e in events if "train_loss" in (e.data or {})]
        print(f"training loss {losses[0]:.2f} → {losses[-1]:.2f}, {job.trained_tokens} tokens")
        before = in_style(client, BASE, held_out[:ASKED])
        after = in_style(client, job.fine_tuned_model, held_out[:ASKED])
        print(
            f"in house style: {BASE} {before} of {ASKED}, {job.fine_tuned_model} {after} of {ASKED}"
        )
        print(f"took {time.monotonic() - began:.0f} s")
        return 0 if losses[-1] < losses[0] / 2 and after > before + ASKED // 2 else 1


if __name__ == "__main__":
    sys.exit(main())
