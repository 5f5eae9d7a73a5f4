from __future__ import annotations

import pytest

from loadtests.first_token import StagesTable
from loadtests.stages import BASE, LONGER, RAG, Staged


def _timings(evidence: float, engine: float, **details: float) -> dict[str, float]:
    path = {"admit": 0.1, "evidence": evidence, "decide": 0.1, "prompt": 0.3, "adapter": 0.1}
    return {**path, **details, "ttft": sum(path.values()) + engine, "total": 99.0}


STAGED = Staged(
    {
        BASE: [_timings(0.2, 10), _timings(0.2, 12)],
        LONGER: [_timings(0.2, 20), _timings(0.2, 22)],
        RAG: [_timings(8.2, 20, embed=5.0), _timings(8.2, 23, embed=5.0)],
    },
    {BASE: [20, 20], LONGER: [200, 200], RAG: [201, 199]},
)


def test_retrieval_adds_the_search_and_what_is_left_is_told() -> None:
    assert STAGED.added_ms().value == pytest.approx(8.5)
    assert STAGED.unexplained_ms().value == pytest.approx(0.5)
    assert STAGED.engine_ms(RAG) == pytest.approx(21.5)


def test_the_table_has_a_row_for_each_case_and_a_column_for_each_stage() -> None:
    text = "\n".join(StagesTable("rag", "Rag", "As timed.", STAGED).text())
    assert "| in evidence: embed | engine, to the first token | TTFT |" in text
    assert "| rag | 200 | 0.10 | 8.20 | 0.10 | 0.30 | 0.10 | 5.00 | 21.50 | 30.30 |" in text
    assert "| base, as many tokens | 200 | 0.10 | 0.20 |" in text
