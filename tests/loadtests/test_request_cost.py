from __future__ import annotations

import orjson
import pytest

from loadtests.request_cost import Turns, line, main
from loadtests.request_worker import body


@pytest.mark.parametrize("kib", [1, 32, 220])
def test_a_body_is_as_large_as_it_says_and_ends_with_the_question(kib: int) -> None:
    payload = body("demo", kib)
    assert 0.8 * kib * 1024 < len(payload) < 1.2 * kib * 1024 + 400
    last = orjson.loads(payload)["messages"][-1]
    assert last["role"] == "user"
    assert len(last["content"]) < 100


def test_ratios_are_of_neighbours_and_of_this_tree_over_the_other() -> None:
    here = [{"cpu_us": 1.0, "ttft_ms": 2.0}, {"cpu_us": 10.0, "ttft_ms": 20.0}]
    other = [{"cpu_us": 2.0, "ttft_ms": 2.0}, {"cpu_us": 20.0, "ttft_ms": 20.0}]
    turns: Turns = {"here": [*here], "other": [*other]}
    *_, last = line("base", turns)
    assert "CPU 0.50 (0.50 – 0.50), first body 1.00" in last


def test_a_gateway_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests", "10", "--repeats", "1", "--streams", "2", "--kib", "1"]) == 0
    assert capsys.readouterr().out.count("CPU-µs/request") == 1
