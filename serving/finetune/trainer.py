"""The training loop: steps, validations and checkpoints, from which it goes on exactly.

All that a step depends on is in its number, the seed, the files and the checkpoint: the order of
lessons, the learning rate, the weights and the optimizer. A run that was killed and one that was
not end with the same adapter, bit for bit on the same CPU with the same number of threads.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from serving.adapters.base_model import BaseModel
from serving.finetune.batches import batches, passes, steps
from serving.finetune.hyperparameters import Hyperparameters, settle
from serving.finetune.lora import Lora, seed
from serving.finetune.losses import Loss, Preference, Supervised, Tally
from serving.finetune.plan import CHECKPOINTS, RESULT, RESUME, START, Plan, Reporter
from serving.finetune.rendering import Lesson
from serving.finetune.schedule import is_told, is_validated, rate_share

STATE = "trainer.pt"
MAX_NORM = 1.0
SAMPLES = 260  # prompts by which the adapter's own questions are known


class Diverged(Exception):
    """The loss is no number any more."""


class Trainer:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        lessons: Sequence[Lesson],
        validation: Sequence[Lesson],
        report: Reporter,
    ) -> None:
        self._plan, self._folder, self._report = plan, folder, report
        self._lessons, self._validation = lessons, validation
        resume, start = _if_there(folder / RESUME), _if_there(folder / START)
        self._lora = Lora(plan, start, resume)
        self._given: Hyperparameters = settle(
            plan.hyperparameters, plan.method, len(lessons), self._lora.parameters_of_base
        )
        self._loss: Loss = (
            Preference(self._given.beta) if self._given.beta is not None else Supervised()
        )
        self._optimizer = torch.optim.AdamW(
            self._lora.trained, lr=self._given.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self._lengths = [_length(lesson) for lesson in lessons]
        self._steps = steps(len(lessons), self._given.batch_size, self._given.n_epochs)
        self._step = self._tokens = 0
        self._saved: int | None = None  # the step of the last checkpoint
        if resume is not None:
            self._restore(resume)

    def run(self) -> bool:
        """To the end; False if it was asked to stop before, with a checkpoint written."""
        self._report(
            "started",
            hyperparameters=self._given.shown(),
            step=self._step,
            steps=self._steps,
            learning_rate=self._given.learning_rate,
        )
        saved = time.monotonic()
        per_epoch = self._steps // self._given.n_epochs
        while self._step < self._steps:
            if self._report.is_stopping():
                if self._saved != self._step:
                    self._save({})
                return False
            epoch, place = divmod(self._step, per_epoch)
            order = batches(self._lengths, self._given.batch_size, self._plan.seed, epoch)
            metrics = self._learn([self._lessons[at] for at in order[place]])
            self._tell(metrics, is_epochs_last := place == per_epoch - 1)
            if is_epochs_last:
                self._save({**metrics, **self._whole_validation(), "epoch": epoch + 1})
                saved = time.monotonic()
            elif time.monotonic() - saved > self._plan.checkpoint_every_s:
                self._save(metrics)
                saved = time.monotonic()
        self._finish()
        return True

    def _learn(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """One step, in as many passes as memory wants; returns its metrics."""
        self._step += 1
        weight = sum(map(self._loss.weight, lessons))
        self._lora.train()
        self._optimizer.zero_grad(set_to_none=True)
        tally = Tally()
        for part in passes(lessons, list(map(_length, lessons)), self._plan.tokens_per_pass):
            loss, counted = self._loss.sum(self._lora, part)
            tally += counted
            torch.autograd.backward(loss / weight)
        if not math.isfinite(tally.loss):
            raise Diverged(f"the training loss is {tally.loss} at step {self._step}")
        norm = float(torch.nn.utils.clip_grad_norm_(self._lora.trained, MAX_NORM))
        if not math.isfinite(norm):  # clipped by that, the weights would be no numbers any more
            raise Diverged(f"the gradient is {norm} at step {self._step}")
        share = rate_share(self._step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = self._given.learning_rate * share
        self._optimizer.step()
        self._tokens += sum(lesson.tokens for lesson in lessons)
        return {
            "step": self._step,
            "train_loss": _rounded(tally.mean_loss),
            "train_mean_token_accuracy": _rounded(tally.accuracy),
            **{f"train_{name}": _rounded(one) for name, one in self._loss.details(tally).items()},
        }

    def _tell(self, metrics: dict[str, Any], is_epochs_last: bool) -> None:
        """Reports the step, now and then with a look at part of the validation file."""
        validated = bool(self._validation) and is_validated(self._step, self._steps)
        if validated and not is_epochs_last:
            size, count = self._given.batch_size, len(self._validation)
            places = [(self._step * size + n) % count for n in range(min(size, count))]
            tally = self._look([self._validation[at] for at in places])
            metrics["valid_loss"] = _rounded(tally.mean_loss)
            metrics["valid_mean_token_accuracy"] = _rounded(tally.accuracy)
        if validated or is_told(self._step, self._steps):
            self._report("step", steps=self._steps, tokens=self._tokens, metrics=metrics)

    def _whole_validation(self) -> dict[str, Any]:
        if not self._validation:
            return {}
        tally = self._look(self._validation)
        found = {
            "full_valid_loss": _rounded(tally.mean_loss),
            "full_valid_mean_token_accuracy": _rounded(tally.accuracy),
        }
        self._report("validation", metrics={"step": self._step, **found})
        return found

    def _look(self, lessons: Sequence[Lesson]) -> Tally:
        with self._lora.looking():
            return self._tally(lessons)

    def _tally(self, lessons: Sequence[Lesson]) -> Tally:
        parts = passes(lessons, list(map(_length, lessons)), self._plan.tokens_per_pass)
        tally = sum((self._loss.sum(self._lora, part)[1] for part in parts), Tally())
        if not math.isfinite(tally.loss):
            raise Diverged(f"the loss is {tally.loss} after step {self._step}")
        return tally

    def _save(self, metrics: dict[str, Any]) -> None:
        """Adapter, optimizer and place, in a folder that is whole once it is reported."""
        name = f"step-{self._step}"
        folder = self._folder / CHECKPOINTS / name
        self._lora.save(folder)
        state = {
            "step": self._step,
            "tokens": self._tokens,
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        torch.save(state, folder / STATE)
        self._report("checkpoint", name=name, step=self._step, metrics=metrics)
        self._saved = self._step

    def _restore(self, folder: Path) -> None:
        state = torch.load(folder / STATE, weights_only=True)
        self._step = self._saved = state["step"]
        self._tokens = state["tokens"]
        self._optimizer.load_state_dict(state["optimizer"])
        seed(self._plan.seed)
        torch.set_rng_state(state["rng"])

    def _finish(self) -> None:
        """Writes the adapter with its card and samples; says how it compares with the base."""
        self._look(self._lessons[: self._given.batch_size])  # no step follows that would notice
        result = self._folder / RESULT
        self._lora.save(result)
        metrics = self._compared()
        card = {
            "base_model": self._plan.base_name,
            "base_fingerprint": BaseModel(self._plan.base_name, self._plan.model).fingerprint,
            "job": self._plan.job,
            "method": self._plan.method,
            "hyperparameters": self._given.shown(),
            "learning_rate": self._given.learning_rate,
            "steps": self._steps,
            "trained_tokens": self._tokens,
            "seed": self._plan.seed,
            "metrics": metrics,
        }
        (result / "card.json").write_text(json.dumps(card, indent=1))
        prompts = dict.fromkeys(lesson.prompt for lesson in self._lessons if lesson.prompt)
        lines = [json.dumps({"text": prompt}) + "\n" for prompt in list(prompts)[:SAMPLES]]
        (result / "samples.jsonl").write_text("".join(lines))
        self._report("finished", step=self._step, tokens=self._tokens, metrics=metrics)

    def _compared(self) -> dict[str, Any]:
        """The base model and the tuned one on the validation file."""
        if not self._validation:
            return {}
        with self._lora.without():
            base = self._tally(self._validation)
        tuned = self._look(self._validation)
        return {
            "validation_examples": len(self._validation),
            "base": self._summary(base),
            "tuned": self._summary(tuned),
        }

    def _summary(self, tally: Tally) -> dict[str, Any]:
        return {
            "loss": _rounded(tally.mean_loss),
            "mean_token_accuracy": _rounded(tally.accuracy),
            "exact_match": _rounded(tally.exact / max(1, tally.rows)),
            **{name: _rounded(one) for name, one in self._loss.details(tally).items()},
        }


def _length(lesson: Lesson) -> int:
    """What it takes of a pass, padding included."""
    return len(lesson.rows) * max(len(row.ids) for row in lesson.rows)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _if_there(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None
