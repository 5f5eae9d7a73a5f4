from __future__ import annotations

import math
from collections.abc import Sequence

from loadtests.client import Answer, Load
from loadtests.measure import Measured, Turn, Work
from loadtests.tables import CPU_PER_TOKEN, TTFT_P50, Comparison, Table


def _turn(cpu_s: float, error: str | None = None, ttft: float = 0.5) -> Turn:
    """One request of 1000 tokens in two seconds, half of its CPU in the model's process."""
    answer = Answer(0.0, ttft, 0.75, [0.25], {"completion_tokens": 1000}, error)
    load = Load([answer], wall_s=2.0, client_cpu_s=0.02)
    return Turn(
        load, {"engine core": cpu_s / 2, "gateway": cpu_s / 2}, [error] if error else [], 5.0
    )


def _table(ours: Sequence[Turn], theirs: Sequence[Turn]) -> Table:
    measured = Measured({"engram": ours, "relay": theirs}, {"engram": 5.0, "relay": 9.0})
    compared = [
        Comparison("relay", "engram", CPU_PER_TOKEN, "≥ 10"),
        Comparison("engram", "one that did not run", TTFT_P50),
    ]
    work = Work(["why?"], streams=1, seconds=2.0, max_tokens=1000, body_bytes=2048)
    return Table("streams_1", "One stream", "What.", work, len(ours), measured, compared)


def test_cpu_is_per_token_and_the_front_is_what_the_model_did_not_use() -> None:
    turn = _turn(0.5)
    assert (turn.cpu_us_per_token, turn.front_us_per_token, turn.requests_per_s) == (500, 250, 0.5)
    assert turn.added_us_per_token == 490
    assert (turn.tokens_per_s, turn.client_us_per_token, turn.client_share) == (500, 20, 0.01)


def test_a_relay_costs_what_it_asks_too_but_its_own_share_is_told() -> None:
    load = _turn(0.5).load
    relay = Turn(load, {"gateway": 0.3}, [], upstream_cpu_s={"engine core": 0.5, "gateway": 0.1})
    assert round(relay.cpu_us_per_request) == 900_000
    assert round(relay.own_us_per_request) == 300_000
    assert round(relay.front_us_per_token) == 400


def test_the_first_request_of_each_stream_is_no_first_token() -> None:
    answers = [Answer(sent, sent + ttft, sent + 9, error=None) for sent, ttft in ((0, 5), (1, 1))]
    load = Load(answers, 1.0, 0.0)
    assert Turn(load, {}, [], streams=1).ttfts == [1]
    assert Turn(load, {}, [], streams=2).ttfts == [5, 1]  # there are no others


def test_values_have_names_units_and_paired_ratios() -> None:
    table = _table([_turn(0.1), _turn(0.2)], [_turn(0.4), _turn(0.8)])
    found = {value.name: value for value in table.values()}
    ratio = found["gateway.streams_1.relay_over_engram.cpu_per_token"]
    assert (ratio.value, ratio.ci_low, ratio.ci_high, ratio.unit) == (4, 4, 4, "ratio")
    assert found["gateway.streams_1.engram.ttft_p50"].value == 500
    assert found["gateway.streams_1.engram.itl_p99"].unit == "ms"


def test_the_text_states_cost_load_client_and_errors() -> None:
    table = _table([_turn(0.1)], [_turn(0.4, "lost")])
    text = "\n".join(table.text())
    assert "| `engram` | 500 | 100 (100 – 100) | 50 | 90 |" in text
    assert "| 500 | 250 | 20 (1% of a core) | 0 |" in text
    assert "1 concurrent streams, bodies of 2 KB, answers of 1000 tokens" in text
    assert "| `relay` | 200 | 200 |" in text
    assert table.errors == ["relay: lost"]


def test_ratios_are_those_of_arms_that_ran_with_their_goal() -> None:
    (line,) = _table([_turn(0.1)], [_turn(0.4)]).ratios()
    assert line == "| `relay` ÷ `engram`: server CPU-µs per token | 4 | 4 – 4 | ≥ 10 |"


def test_what_is_beyond_a_third_is_compared_and_infinite_where_there_is_nothing() -> None:
    turns = {"vllm": [_turn(0.1)], "engram": [_turn(0.2)], "litellm": [_turn(0.6)]}
    beyond = Comparison("litellm", "engram", CPU_PER_TOKEN, beyond="vllm")
    assert round(beyond.estimate(Measured(turns, {})).value, 6) == 5
    assert beyond.words.startswith("`litellm` ÷ `engram`, both beyond `vllm`: ")
    assert beyond.key == "litellm_over_engram_beyond_vllm.cpu_per_token"
    nothing = Measured({**turns, "engram": [_turn(0.1)]}, {})
    assert beyond.estimate(nothing).value == math.inf
    work = Work(["why?"], streams=1, seconds=2.0, max_tokens=1000)
    table = Table("proxies", "Proxies", "What.", work, 1, nothing, [beyond])
    assert not [value for value in table.values() if "over" in value.name]
