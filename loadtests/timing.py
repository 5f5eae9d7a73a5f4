"""How long one streamed answer took, in the four ways that users feel, and whether that was good.

TTFT: from when it was due to its first text. ITL: every gap between two pieces of text. TPOT: time
from the first piece to the last over one token less than `usage` counts, so it stays right where
several tokens come in one piece. E2E: to the end of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from loadtests.answer import Answer


@dataclass(slots=True)
class Stream(Answer):
    """An answer that is also wanted as text, which is put together only when somebody asks."""

    payloads: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> str:
        chunks = (orjson.loads(payload) for payload in self.payloads if payload != b"[DONE]")
        choices = (choice for chunk in chunks for choice in chunk.get("choices", ()))
        return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)

    def receive(self, readline: Callable[[bytes], bytes], clock: Callable[[], float]) -> None:
        """Reads an event stream to its end, so that the connection is kept."""
        while line := readline(b"\n"):
            if line.startswith(b"data:"):
                payload = bytes(line[5:].strip())
                self.read(payload, clock())
                self.payloads.append(payload)


@dataclass(frozen=True, slots=True)
class Timing:
    """In milliseconds; `ttft` is missing without text, `tpot` below two tokens."""

    e2e: float
    ttft: float | None
    tpot: float | None
    itl: Sequence[float] = ()

    @classmethod
    def of(cls, answer: Answer, ended: float) -> Timing:
        if answer.first is None:
            return cls((ended - answer.began) * 1e3, None, None)
        tokens = answer.tokens
        tpot = (answer.last - answer.first) / (tokens - 1) * 1e3 if tokens > 1 else None
        gaps = [gap * 1e3 for gap in answer.gaps]
        return cls((ended - answer.began) * 1e3, answer.ttft * 1e3, tpot, gaps)


@dataclass(frozen=True, slots=True)
class Slo:
    """What a user is promised, in milliseconds; 0 promises nothing."""

    ttft: float = 0.0
    tpot: float = 0.0
    e2e: float = 0.0

    @classmethod
    def of(cls, options: Any) -> Slo:
        return cls(options.ttft_slo_ms, options.tpot_slo_ms, options.e2e_slo_ms)

    def is_met_by(self, timing: Timing) -> bool:
        """An answer too short to have a TPOT keeps it; one without text never was a first token."""
        bounds = ((timing.ttft, self.ttft), (timing.tpot, self.tpot), (timing.e2e, self.e2e))
        if self.ttft and timing.ttft is None:
            return False
        return all(value is None or not bound or value <= bound for value, bound in bounds)

    def is_kept_by(self, answer: Answer) -> bool:
        return self.is_met_by(Timing.of(answer, answer.ended))

    def __str__(self) -> str:
        bounds = {"TTFT": self.ttft, "TPOT": self.tpot, "E2E": self.e2e}
        stated = [f"{name} ≤ {bound:g} ms" for name, bound in bounds.items() if bound]
        return ", ".join(stated) or "no SLO"
