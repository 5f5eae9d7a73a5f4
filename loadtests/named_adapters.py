"""Adapters that answer with nothing but their own name, so that a wrong one shows in every token.

A LoRA on the last layer's MLP, written down rather than trained. It adds K·z to gate and up of one
inner unit and -K·z to those of another, whose outputs then sum to about K²·z², positive whatever
the input is; `down_proj` turns that into the direction of the name's token, large enough to drown
the rest. Milliseconds an adapter, any Llama-like model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

STRENGTH = 1000.0  # of the name over the usual length of the hidden state
GAIN = 10.0  # above what the base model computes in those units, far below STRENGTH
RANK = 8
SAMPLE = "Tell me about the river, and about what lives in it."


@dataclass(frozen=True, slots=True)
class Name:
    word: str
    token: int


class Builder:
    """Names and their adapters for the model in `model_folder`."""

    def __init__(self, model_folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
        load: Any = AutoModelForCausalLM.from_pretrained
        self._model = load(model_folder, dtype=torch.float32).eval()
        self._layer = self._model.config.num_hidden_layers - 1
        self._inner = self._model.config.intermediate_size
        self._gain = self._model.model.norm.weight.detach()
        self._rows = self._model.lm_head.weight.detach()
        # Undoes the final norm's gain, so that the row's own logit is its squared length.
        self._directions = torch.nn.functional.normalize(self._rows / self._gain, dim=1)
        self._length = self._usual_length()

    def names(self, count: int) -> list[Name]:
        """Tokens that are words and whose direction no other token's logit comes near."""
        found: dict[str, Name] = {}
        tokens = self._words()
        for start in range(0, len(tokens), 256):
            some = torch.tensor(tokens[start : start + 256])
            logits = (self._directions[some] * self._gain) @ self._rows.T
            best, second = logits.topk(2, dim=1).values.T
            first = logits.argmax(dim=1)
            clear = (first == some) & (best > 1.2 * second)
            for token in some[clear].tolist():
                word = self._tokenizer.decode([token]).strip()
                found.setdefault(word.lower(), Name(word.lower(), token))
        if len(found) < count:
            raise ValueError(f"the vocabulary has {len(found)} clear words, not {count}")
        return sorted(found.values(), key=lambda name: (-len(name.word), name.word))[:count]

    def write(self, names: Sequence[Name], folders: Iterable[Path]) -> None:
        """One adapter folder for each name."""
        hidden = self._rows.shape[1]
        reads = torch.linalg.qr(torch.randn(hidden, RANK, generator=torch.Generator()))[0].T
        rises = torch.zeros(self._inner, RANK)
        for number in range(RANK):
            rises[2 * number, number], rises[2 * number + 1, number] = GAIN, -GAIN
        sums = torch.zeros(RANK, self._inner)
        sums[0, : 2 * RANK] = 1 / (RANK * GAIN**2)
        for name, folder in zip(names, folders, strict=True):
            says = torch.zeros(hidden, RANK)
            says[:, 0] = STRENGTH * self._length * self._directions[name.token]
            pairs = {"gate_proj": (reads, rises), "up_proj": (reads, rises)}
            _save(folder, self._layer, pairs | {"down_proj": (sums, says)})

    def _words(self) -> list[int]:
        texts = {token: self._tokenizer.decode([token]) for token in range(len(self._rows))}
        return [
            token
            for token, text in texts.items()
            if text.strip().isascii() and text.strip().isalpha() and text.strip().islower()
        ]

    def _usual_length(self) -> float:
        """Of what the last layer adds to."""
        tokens = self._tokenizer(SAMPLE, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            states = self._model(tokens["input_ids"], output_hidden_states=True).hidden_states
        return float(states[-2][0].norm(dim=1).mean())


def _save(folder: Path, layer: int, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": list(pairs),
        "bias": "none",
        "base_model_name_or_path": "named",
    }
    tensors = {}
    for target, (a, b) in pairs.items():
        module = f"base_model.model.model.layers.{layer}.mlp.{target}"
        tensors[f"{module}.lora_A.weight"] = a.clone()
        tensors[f"{module}.lora_B.weight"] = b.clone()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
