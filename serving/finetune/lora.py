"""The model in training: a frozen base and a LoRA adapter on its linear modules. Imports PEFT.

Knows tokens and tensors; what is learned from them is `losses.py`'s.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from serving.adapters.validation import TARGETS
from serving.finetune.plan import Plan
from serving.finetune.rendering import Row

EXACT_BELOW = 500_000_000  # parameters; a small model is trained on CPU in float32
_REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Answers:
    """The learned tokens of some rows, flat: `logits[k]` foresees `labels[k]` in row `row[k]`."""

    logits: torch.Tensor
    labels: torch.Tensor
    row: torch.Tensor


class Lora:
    """`start`: an adapter to go on from, which preferences are also measured against; `resume`:
    an own checkpoint, which takes its place."""

    def __init__(self, plan: Plan, start: Path | None = None, resume: Path | None = None) -> None:
        self._device = torch.device("cuda" if plan.device == "gpu" else "cpu")
        base = _base(plan.model, self._device)
        self.parameters_of_base = sum(one.numel() for one in base.parameters())
        seed(plan.seed)
        if (given := resume or start) is not None:
            model = PeftModel.from_pretrained(base, str(given), is_trainable=True)
        else:
            model = get_peft_model(base, _config(plan.rank))
        if start is not None:
            model.load_adapter(str(start), _REFERENCE, is_trainable=False)
        self._has_reference = start is not None
        self._model: Any = model
        self._base_name = plan.base_name
        self.trained = [one for one in model.parameters() if one.requires_grad]

    def train(self) -> None:
        self._model.train()

    def answers(self, rows: Sequence[Row]) -> Answers:
        """Only the positions that foresee something learned go through the output layer. Padding
        is on the right, where causal attention sees it from nowhere that counts."""
        ids, learned = self._padded(rows)
        foreseen = learned[:, 1:]
        kept = foreseen.any(0).nonzero()[:, 0]
        output = self._model(input_ids=ids, logits_to_keep=kept, use_cache=False)
        row, place = foreseen[:, kept].nonzero(as_tuple=True)
        labels = ids[:, 1:][:, kept][row, place]
        return Answers(output.logits[row, place].float(), labels, row)

    def _padded(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        learned = torch.zeros(len(rows), longest, dtype=torch.bool)
        for at, row in enumerate(rows):
            ids[at, : len(row.ids)] = torch.tensor(row.ids)
            learned[at, : len(row.ids)] = torch.tensor(row.learned)
        return ids.to(self._device), learned.to(self._device)

    @contextmanager
    def without(self) -> Iterator[None]:
        """The base model alone, for looking at, not for learning."""
        self._model.eval()
        with torch.no_grad(), self._model.disable_adapter():
            yield

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The model as it was before the training."""
        if not self._has_reference:
            with self.without():
                yield
            return
        self._model.set_adapter(_REFERENCE)
        try:
            with torch.no_grad():
                yield
        finally:
            self._model.set_adapter("default")

    @contextmanager
    def looking(self) -> Iterator[None]:
        """As it is now, for looking at."""
        self._model.eval()
        with torch.no_grad():
            yield
        self._model.train()

    def save(self, folder: Path) -> None:
        """The adapter as PEFT writes it, in the precision it was trained in."""
        self._model.peft_config["default"].base_model_name_or_path = self._base_name
        self._model.save_pretrained(
            str(folder), selected_adapters=["default"], save_embedding_layers=False
        )
        (folder / "README.md").unlink(missing_ok=True)


def seed(value: int) -> None:
    random.seed(value)
    torch.manual_seed(value)


def _base(model: str, device: torch.device) -> Any:
    """The served weights; every result follows from the seed."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    base: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    size = sum(one.numel() for one in base.parameters())
    if device.type == "cpu" and size < EXACT_BELOW:
        base = base.float()
    elif size > EXACT_BELOW:  # memory for time
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
    return base.to(device)


def _config(rank: int) -> LoraConfig:
    """Never the embedding or the output layer: they are often one matrix, which vLLM keeps."""
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(TARGETS),
        bias="none",
        task_type="CAUSAL_LM",
    )
