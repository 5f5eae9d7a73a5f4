"""What `auto` means, by the size of the training file and of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.finetune.training_file import Method

SMALL_MODEL = 100_000_000  # parameters; below, a style takes more steps to learn
STEPS, SMALL_STEPS = 100, 300  # that `auto` aims at
MAX_AUTO_EPOCHS, MAX_AUTO_BATCH, MIN_AUTO_BATCH = 25, 32, 4
AUTO_BETA = 0.1
_LARGE, _LARGE_RATE = 7e9, 2e-4
_TINY, _TINY_RATE = 2e6, 3e-3
_DPO_SHARE = 0.1  # of the rate: a preference moves a trained model a little


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """All settled; `learning_rate` is what the multiplier makes of the model's own."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    beta: float | None = None

    def shown(self) -> dict[str, Any]:
        """As OpenAI's API has them."""
        shown = {
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return shown if self.beta is None else {**shown, "beta": self.beta}


def settle(
    wanted: Mapping[str, Any], method: Method, examples: int, parameters: int
) -> Hyperparameters:
    """What was asked for, and for each `auto` a value."""
    batch = _or(wanted.get("batch_size"), auto_batch(examples))
    batch = min(batch, examples)
    multiplier = float(_or(wanted.get("learning_rate_multiplier"), 1.0))
    rate = base_rate(parameters) * (_DPO_SHARE if method == "dpo" else 1.0)
    return Hyperparameters(
        n_epochs=_or(wanted.get("n_epochs"), auto_epochs(examples, batch, parameters)),
        batch_size=batch,
        learning_rate_multiplier=multiplier,
        learning_rate=rate * multiplier,
        beta=float(_or(wanted.get("beta"), AUTO_BETA)) if method == "dpo" else None,
    )


def auto_batch(examples: int) -> int:
    """A power of two near a 64th of the examples."""
    near = 2 ** round(math.log2(max(1.0, examples / 64)))
    return int(min(MAX_AUTO_BATCH, max(MIN_AUTO_BATCH, near)))


def auto_epochs(examples: int, batch: int, parameters: int) -> int:
    """As many as bring about the steps aimed at; at least 1, and 3 for small files."""
    aim = SMALL_STEPS if parameters < SMALL_MODEL else STEPS
    per_epoch = math.ceil(examples / batch)
    least = 3 if examples < 1_000 else 1
    return min(MAX_AUTO_EPOCHS, max(least, math.ceil(aim / per_epoch)))


def base_rate(parameters: int) -> float:
    """Between 3e-3 for 2 million parameters and 2e-4 for 7 billion, on a log-log line."""
    slope = math.log(_TINY_RATE / _LARGE_RATE) / math.log(_LARGE / _TINY)
    rate = _LARGE_RATE * math.pow(_LARGE / max(1, parameters), slope)
    return min(_TINY_RATE, max(1e-4, rate))


def _or(value: Any, auto: Any) -> Any:
    return auto if value in (None, "auto") else value
