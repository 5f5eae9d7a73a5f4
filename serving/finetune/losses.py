"""What is learned from lessons: their answers, or which of two answers is the better one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from serving.finetune.lora import Answers, Lora
from serving.finetune.rendering import Lesson, Row


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over lessons. `weight` is what the loss is divided by; a row is `exact` when each of
    its learned tokens is the likeliest, which is when greedy decoding would write it."""

    loss: float = 0.0
    weight: int = 0
    tokens: int = 0
    correct: int = 0
    rows: int = 0
    exact: int = 0
    margin: float = 0.0  # of the rewards of preferred and rejected answers
    preferred: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))

    @property
    def mean_loss(self) -> float:
        return self.loss / max(1, self.weight)

    @property
    def accuracy(self) -> float:
        return self.correct / max(1, self.tokens)


class Loss(Protocol):
    def weight(self, lesson: Lesson, /) -> int:
        """By what the loss over a batch is divided."""
        ...

    def sum(self, lora: Lora, lessons: Sequence[Lesson]) -> tuple[torch.Tensor, Tally]:
        """The loss added up over the lessons, to be minimised, and what there is to say of it."""
        ...

    def details(self, tally: Tally, /) -> dict[str, Any]:
        """Metrics that this loss alone has."""
        ...


class Supervised:
    """Cross-entropy of every learned token, each of equal weight."""

    def weight(self, lesson: Lesson, /) -> int:
        return sum(row.answer_tokens for row in lesson.rows)

    def sum(self, lora: Lora, lessons: Sequence[Lesson]) -> tuple[torch.Tensor, Tally]:
        rows = [row for lesson in lessons for row in lesson.rows]
        answers = lora.answers(rows)
        loss = F.cross_entropy(answers.logits, answers.labels, reduction="sum")
        counted = _counted(answers, rows)
        return loss, replace(counted, loss=loss.item(), weight=counted.tokens)

    def details(self, _: Tally, /) -> dict[str, Any]:
        return {}


class Preference:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290), the sigmoid loss,
    against the model as it was before the training. Accuracy is that of the preferred answers."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def weight(self, _: Lesson, /) -> int:
        return 1

    def sum(self, lora: Lora, lessons: Sequence[Lesson]) -> tuple[torch.Tensor, Tally]:
        rows = [row for lesson in lessons for row in lesson.rows]
        with lora.reference():
            before = _log_likelihoods(lora.answers(rows), len(rows))
        if torch.is_grad_enabled():
            lora.train()
        answers = lora.answers(rows)
        rewards = self._beta * (_log_likelihoods(answers, len(rows)) - before)
        margins = rewards[0::2] - rewards[1::2]
        loss = -F.logsigmoid(margins).sum()
        preferred = Answers(*_of_rows(answers, answers.row % 2 == 0))
        counted = _counted(preferred, rows[0::2])
        return loss, replace(
            counted,
            loss=loss.item(),
            weight=len(lessons),
            margin=margins.sum().item(),
            preferred=int((margins > 0).sum()),
        )

    def details(self, tally: Tally, /) -> dict[str, Any]:
        pairs = max(1, tally.weight)
        return {
            "reward_margin": tally.margin / pairs,
            "preference_accuracy": tally.preferred / pairs,
        }


def _of_rows(answers: Answers, kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return answers.logits[kept], answers.labels[kept], answers.row[kept]


def _log_likelihoods(answers: Answers, rows: int) -> torch.Tensor:
    """Of each row's learned tokens together."""
    each = -F.cross_entropy(answers.logits, answers.labels, reduction="none")
    return torch.zeros(rows, device=each.device).index_add(0, answers.row, each)


def _counted(answers: Answers, rows: Sequence[Row]) -> Tally:
    right = answers.logits.argmax(-1) == answers.labels
    wrong_rows = torch.unique(answers.row[~right])
    return Tally(
        tokens=len(right),
        correct=int(right.sum()),
        rows=len(rows),
        exact=len(rows) - len(wrong_rows),
    )
