"""Measures a checkpoint on the generator's held-out split and prints a table."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from deploy.demo.model import chat, corpus, larkfield, lessons

HOME = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One question with the answer that is expected."""

    kind: str
    system: str | None
    question: str
    answer: str


def answers(
    model: PreTrainedModel, encoder: chat.Encoder, prompts: Sequence[list[int]], limit: int = 32
) -> list[str]:
    """Greedy answers, in batches padded on the left."""
    found: list[str] = []
    was_training = model.training
    kernel = model.config._attn_implementation  # noqa: SLF001 (there is no public getter)
    model.eval()
    model.set_attn_implementation("sdpa")
    for start in range(0, len(prompts), 32):
        part = prompts[start : start + 32]
        width = max(map(len, part))
        ids = torch.tensor([[encoder.pad] * (width - len(p)) + p for p in part])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part])
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=encoder.end,
                pad_token_id=encoder.pad,
            )
        found += [encoder.decode(line[width:].tolist()) for line in out]
    model.train(was_training)
    model.set_attn_implementation(kernel)
    return found


def cases(per_kind: int, seed: int = 7) -> list[Case]:
    """Held-out questions over one to three passages, near misses, and no passages at all."""
    return [*_frame_cases(per_kind, seed), *page_cases(per_kind, seed, held_out=True)]


def page_cases(per_kind: int, seed: int, held_out: bool) -> list[Case]:
    """Questions over two passages of pages, answered and not."""
    rng = random.Random(seed)
    found: list[Case] = []
    for miss, kind in ((0.0, "page_value"), (1.0, "page_refusal")):
        while sum(case.kind == kind for case in found) < per_kind:
            made = lessons.chat(rng, 2, held_out, turns=1, miss=miss)
            question, answer = made.turns[0]
            if answer == corpus.NOT_IN_PASSAGES if miss else chat.cited(answer):
                found.append(Case(kind, made.system, question, answer))
    return found


def _frame_cases(per_kind: int, seed: int) -> list[Case]:
    rng = random.Random(seed)
    found: list[Case] = []
    for count in (1, 2, 3):
        for miss, kind in ((0.0, f"value_{count}"), (1.0, "refusal")):
            wanted = per_kind if not miss else per_kind // 3
            while sum(c.kind == kind for c in found) < wanted * (count if miss else 1):
                made = _context_case(rng, kind, count, miss)
                found += [made] if made else []
    while sum(c.kind == "no_context" for c in found) < per_kind // 2:
        plain = corpus.plain_chat(rng, held_out=True)
        question, answer = plain.turns[0]
        if answer == corpus.NOT_KNOWN:
            found.append(Case("no_context", plain.system, question, answer))
    return found


def _context_case(rng: random.Random, kind: str, count: int, miss: float) -> Case | None:
    made = corpus.context_chat(rng, count, held_out=True, turns=1, miss=miss)
    question, answer = made.turns[0]
    refused = answer == corpus.NOT_IN_PASSAGES
    answerable = chat.cited(answer) != ""
    if refused if miss else answerable:
        return Case(kind, made.system, question, answer)
    return None


def score(found: Sequence[Case], told: Sequence[str]) -> dict[str, float]:
    """The share of right answers per kind; citations only where the value is right."""
    right: dict[str, list[bool]] = {}
    for case, answer in zip(found, told, strict=True):
        ok = chat.value_of(answer) == chat.value_of(case.answer)
        right.setdefault(case.kind, []).append(ok)
        if ok and chat.cited(case.answer):
            right.setdefault("citation", []).append(chat.cited(answer) == chat.cited(case.answer))
    return {kind: round(sum(oks) / len(oks), 3) for kind, oks in right.items()}


def held_out(model: PreTrainedModel, encoder: chat.Encoder, per_kind: int) -> dict[str, float]:
    """Scores of a model on the held-out split."""
    asked = cases(per_kind)
    prompts = [encoder.prompt(case.system, (), case.question) for case in asked]
    return score(asked, answers(model, encoder, prompts))


def adapter_cases(per_kind: int, seed: int = 8) -> list[Case]:
    """Tickets over passages, problem reports, plain questions and stable facts from memory."""
    rng = random.Random(seed)
    found: list[Case] = []
    for tickets, kind in ((1.0, "ticket"), (0.0, "plain")):
        for miss, suffix in ((0.0, "value"), (1.0, "refusal")):
            found += _reading_cases(rng, f"{kind}_{suffix}", tickets, miss, per_kind)
    for _ in range(per_kind):
        found.append(Case("problem", larkfield.INSTRUCTIONS, *larkfield.problem(rng, True)))
    for fact in larkfield.stable_facts():
        for question in fact.held_out:
            answer = f"{fact.value}."
            found.append(Case("stable", larkfield.INSTRUCTIONS, question, answer))
            found.append(
                Case(
                    "stable_ticket",
                    larkfield.INSTRUCTIONS,
                    *larkfield.ticket(rng, question, fact.queue, answer, held_out=True),
                )
            )
    return found


def _reading_cases(
    rng: random.Random,
    kind: str,
    tickets: float,
    miss: float,
    count: int,
) -> list[Case]:
    found: list[Case] = []
    while len(found) < count:
        made = larkfield.reading(rng, tickets, held_out=True, turns=1, miss=miss)
        question, answer = made.turns[0]
        refused = corpus.NOT_IN_PASSAGES in answer
        is_ticket = answer.startswith("Queue")
        told = refused or chat.cited(answer) != ""
        if told and refused == bool(miss) and is_ticket == bool(tickets):
            found.append(Case(kind, made.system, question, answer))
    return found


def form_score(found: Sequence[Case], told: Sequence[str]) -> dict[str, float]:
    """The share of tickets answered in the fixed form with the right queue."""
    right: dict[str, list[bool]] = {}
    for case, answer in zip(found, told, strict=True):
        if case.answer.startswith("Queue"):
            head = case.answer.split(":")[0]
            ok = answer.startswith(f"{head}: ") and answer.endswith(" Regards, Larkfield Desk.")
            right.setdefault(f"{case.kind} form", []).append(ok)
        elif case.kind.startswith("plain"):
            right.setdefault("plain stays plain", []).append("Queue" not in answer)
    return {kind: round(sum(oks) / len(oks), 3) for kind, oks in right.items()}


def table(weights: Path, adapter: Path | None, per_kind: int) -> dict[str, float]:
    """All scores of the base model or, given one, of an adapter on it."""
    encoder = chat.Encoder(AutoTokenizer.from_pretrained(weights))
    model: PreTrainedModel = LlamaForCausalLM.from_pretrained(weights, dtype=torch.float32)
    if adapter is None:
        return held_out(model, encoder, per_kind)
    tuned = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    asked = adapter_cases(per_kind)
    prompts = [encoder.prompt(case.system, (), case.question) for case in asked]
    told = answers(tuned, encoder, prompts, limit=48)
    return {**score(asked, told), **form_score(asked, told)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HOME / "weights")
    parser.add_argument("--adapter", type=Path, help="measure this adapter on the weights")
    parser.add_argument("--per-kind", type=int, default=100)
    given = parser.parse_args()
    for kind, share in table(given.weights, given.adapter, given.per_kind).items():
        print(f"{kind:24} {share:.3f}")


if __name__ == "__main__":
    main()
