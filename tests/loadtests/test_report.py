from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import orjson

from loadtests.client import Answer, Load
from loadtests.measure import Measured, Turn, Work
from loadtests.report import Comparison, Section, markdown, values, write

COST = attrgetter("cpu_us_per_token")


def _turn(cpu_s: float, error: str | None = None) -> Turn:
    """One request of 1000 tokens in two seconds, half of its CPU in the model's process."""
    answer = Answer(0.0, 0.5, 0.75, [0.25], {"completion_tokens": 1000}, error)
    load = Load([answer], wall_s=2.0, client_cpu_s=0.02)
    return Turn(
        load, {"engine core": cpu_s / 2, "gateway": cpu_s / 2}, [error] if error else [], 5.0
    )


def _section(ours: Sequence[Turn], theirs: Sequence[Turn]) -> Section:
    measured = Measured({"engram": ours, "relay": theirs}, {"engram": 5.0, "relay": 9.0})
    compared = [Comparison("Relay ÷ Engram: CPU per token", "relay", "engram", COST)]
    work = Work(["why?"], streams=1, requests=1, max_tokens=1000)
    return Section("model", "With", "What.", work, len(ours), measured, compared)


def test_cpu_is_per_token_and_the_front_is_what_the_model_did_not_use() -> None:
    turn = _turn(0.5)
    assert (turn.cpu_us_per_token, turn.front_us_per_token, turn.requests_per_s) == (500, 250, 0.5)
    assert turn.added_us_per_token == 490


def test_values_have_names_units_and_paired_ratios() -> None:
    section = _section([_turn(0.1), _turn(0.2)], [_turn(0.4), _turn(0.8)])
    found = {value.name: value for value in values([section])}
    ratio = found["gateway.model.relay_over_engram"]
    assert (ratio.value, ratio.ci_low, ratio.ci_high, ratio.unit) == (4, 4, 4, "ratio")
    assert found["gateway.model.engram.ttft_p50"].value == 500
    assert found["gateway.model.engram.inter_token_p99"].unit == "ms"


def test_the_report_states_cost_ratio_errors_and_how_it_was_made(tmp_path: Path) -> None:
    section = _section([_turn(0.1)], [_turn(0.4, "lost")])
    text = markdown([section], "client self-test passed", "python -m loadtests.bench", 0.5)
    document, results = tmp_path / "docs/gateway.md", tmp_path / "results/latest.json"
    write([section], text, document, results)
    assert document.read_text() == text
    assert "| engram | 100 (100 – 100) | 90 | 50 | 0.5 | 500 / 500 | 250 | 20 | 0 |" in text
    assert "| relay | 400 (400 – 400) | 390 | 200 | 0.5 | nan / nan | 250 | 20 | 1 |" in text
    assert "| Relay ÷ Engram: CPU per token | 4.00 | 4.00 – 4.00 |" in text
    assert "python -m loadtests.bench" in text
    assert len(orjson.loads(results.read_bytes())) == 11
