"""Token log probabilities in the two shapes OpenAI gives them: chat's and the completion's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class TokenLogprob(NamedTuple):
    """One token with its log probability."""

    token: str
    logprob: float


class Step(NamedTuple):
    """What was sampled at one position, and the likeliest tokens there."""

    chosen: TokenLogprob
    top: Sequence[TokenLogprob]


def chat_logprobs(steps: Sequence[Step]) -> dict[str, Any]:
    """The `logprobs` of a chat choice."""
    return {
        "content": [
            {**_entry(step.chosen), "top_logprobs": [_entry(token) for token in step.top]}
            for step in steps
        ]
    }


def _entry(token: TokenLogprob) -> dict[str, Any]:
    text, logprob = token
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}


@dataclass(slots=True)
class CompletionLogprobs:
    """The `logprobs` of one completion choice, piece by piece; offsets run on."""

    offset: int = 0

    def next(self, steps: Sequence[Step]) -> dict[str, Any]:
        """The `logprobs` of the next piece."""
        offsets = []
        for step in steps:
            offsets.append(self.offset)
            self.offset += len(step.chosen.token)
        return {
            "tokens": [step.chosen.token for step in steps],
            "token_logprobs": [max(step.chosen.logprob, -9999.0) for step in steps],
            "top_logprobs": [_by_token(step) for step in steps],
            "text_offset": offsets,
        }


def _by_token(step: Step) -> dict[str, float]:
    """The likeliest tokens, and the sampled one even if it is not among them."""
    return {one.token: max(one.logprob, -9999.0) for one in (*step.top, step.chosen)}
