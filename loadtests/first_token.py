"""Tables about the first token: what Engram adds to vLLM's, and retrieval to Engram's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.paired import Paired
from loadtests.report import Value, interval, row, value_of
from loadtests.stages import STAGES, Staged
from loadtests.statistics import Estimate, estimate


@dataclass(frozen=True, slots=True)
class AddedTable:
    """Time to the first token at one stream, of each case beyond the reference."""

    key: str
    title: str
    explanation: str
    paired: Paired
    reference: str
    errors: Sequence[str] = ()

    def ratios(self) -> list[str]:
        return [
            row(
                f"`{name}` − `{self.reference}`: TTFT, median of pairs, 1 stream",
                f"{added.value:.2f} ms",
                f"{added.low:.2f} – {added.high:.2f}",
                "≤ 1 ms",
            )
            for name, added in self._added().items()
        ]

    def text(self) -> list[str]:
        count = len(self.paired.ttft_ms[self.reference])
        added = self._added()
        rows = [
            row(
                f"`{name}`",
                f"{self.paired.percentile_ms(name, 50):.2f}",
                f"{self.paired.percentile_ms(name, 99):.2f}",
                interval(added[name], ".2f") if name in added else "",
            )
            for name in self.paired.ttft_ms
        ]
        return [
            f"{self.explanation} {count} questions, each to every arm in turn. The client took "
            f"{self.paired.client_us_per_token:.0f} CPU-µs per token.",
            "",
            row("arm", "TTFT p50 ms", "TTFT p99 ms", f"beyond `{self.reference}`, median of pairs"),
            "|---|---|---|---|",
            *rows,
        ]

    def values(self) -> list[Value]:
        prefix = f"gateway.{self.key}"
        medians = [
            value_of(f"{prefix}.{name}.ttft_p50", estimate(times), "ms")
            for name, times in self.paired.ttft_ms.items()
        ]
        return medians + [
            value_of(f"{prefix}.{name}_minus_{self.reference}.ttft_p50", added, "ms")
            for name, added in self._added().items()
        ]

    def _added(self) -> dict[str, Estimate]:
        names = (name for name in self.paired.ttft_ms if name != self.reference)
        return {name: self.paired.added_ms(name, self.reference) for name in names}


@dataclass(frozen=True, slots=True)
class StagesTable:
    """The request path by stage, with and without passages."""

    key: str
    title: str
    explanation: str
    staged: Staged
    errors: Sequence[str] = ()

    def ratios(self) -> list[str]:
        added, left = self.staged.added_ms(), self.staged.unexplained_ms()
        words = "`rag` − `base` on as many prompt tokens: TTFT, median of pairs, 1 stream"
        return [
            row(words, f"{added.value:.2f} ms", f"{added.low:.2f} – {added.high:.2f}", ""),
            row(
                "of it not the search itself",
                f"{left.value:.2f} ms",
                f"{left.low:.2f} – {left.high:.2f}",
                "0: retrieval and nothing else",
            ),
        ]

    def text(self) -> list[str]:
        staged = self.staged
        count = len(next(iter(staged.timings_ms.values())))
        names = [*STAGES, *staged.details]
        rows = [
            row(
                case,
                f"{staged.tokens(case):.0f}",
                *(f"{staged.stage_ms(case, stage):.2f}" for stage in names),
                f"{staged.engine_ms(case):.2f}",
                f"{staged.stage_ms(case, 'ttft'):.2f}",
            )
            for case in staged.timings_ms
        ]
        inside = [*STAGES, *(f"in evidence: {name}" for name in staged.details)]
        return [
            f"{self.explanation} Medians of {count} questions, milliseconds.",
            "",
            row("case", "prompt tokens", *inside, "engine, to the first token", "TTFT"),
            "|---" * (len(names) + 4) + "|",
            *rows,
        ]

    def values(self) -> list[Value]:
        prefix = f"gateway.{self.key}"
        return [
            value_of(f"{prefix}.rag_minus_base.ttft_p50", self.staged.added_ms(), "ms"),
            value_of(f"{prefix}.rag_beyond_search.ttft_p50", self.staged.unexplained_ms(), "ms"),
        ]
