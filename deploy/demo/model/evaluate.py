"""Measures a checkpoint on the generator's held-out split and prints a table."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from deploy.demo.model import chat, corpus

HOME = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Case:
    """One question with the answer that is expected."""

    kind: str
    system: str | None
    question: str
    answer: str


def answers(model: PreTrainedModel, encoder: chat.Encoder, prompts: Sequence[list[int]],
            limit: int = 32) -> list[str]:
    """Greedy answers, in batches padded on the left."""
    found: list[str] = []
    was_training = model.training
    model.eval()
    for start in range(0, len(prompts), 32):
        part = prompts[start : start + 32]
        width = max(map(len, part))
        ids = torch.tensor([[encoder.pad] * (width - len(p)) + p for p in part])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in part])
        with torch.no_grad():
            out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit,
                                 do_sample=False, eos_token_id=encoder.end,
                                 pad_token_id=encoder.pad)
        found += [encoder.decode(line[width:].tolist()) for line in out]
    model.train(was_training)
    return found


def cases(per_kind: int, seed: int = 7) -> list[Case]:
    """Held-out questions over one to three passages, near misses, and no passages at all."""
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
    if (refused if miss else answerable):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HOME / "weights")
    parser.add_argument("--per-kind", type=int, default=200)
    given = parser.parse_args()
    encoder = chat.Encoder(AutoTokenizer.from_pretrained(given.weights))
    model = LlamaForCausalLM.from_pretrained(given.weights, dtype=torch.float32)
    for kind, share in held_out(model, encoder, given.per_kind).items():
        print(f"{kind:12} {share:.3f}")


if __name__ == "__main__":
    main()
