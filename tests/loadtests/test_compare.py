from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.compare import baseline_of, main, moves
from loadtests.report import Value

COST = "gateway.streams_64.engram.cpu_per_token"


def _value(name: str, value: float, around: float = 0.1) -> Value:
    return Value(name, value, value * (1 - around), value * (1 + around), "µs")


def _file(path: Path, name: str, value: float) -> str:
    low, high = value * 0.9, value * 1.1
    found = {"name": name, "value": value, "ci_low": low, "ci_high": high, "unit": "µs"}
    path.write_bytes(orjson.dumps([found]))
    return str(path)


def test_a_change_within_the_intervals_is_noise() -> None:
    assert moves([_value(COST, 100)], [_value(COST, 115)], 0.1) == []
    (move,) = moves([_value(COST, 100)], [_value(COST, 130)], 0.1)
    assert move.is_worse and round(move.share, 2) == 0.3
    assert moves([_value(COST, 100, 0.001)], [_value(COST, 105, 0.001)], 0.1) == []


@pytest.mark.parametrize(
    ("name", "rises_for_the_worse"),
    [
        (COST, True),
        ("gateway.streams_64.engram.tokens_per_s", False),
        ("gateway.streams_64.engram_over_vllm.cpu_per_token", True),
        ("gateway.streams_64.engram_over_vllm.tokens_per_s", False),
        ("gateway.streams_64.relay_over_engram.cpu_per_token", False),
    ],
)
def test_worse_is_told_from_better(name: str, rises_for_the_worse: bool) -> None:
    (move,) = moves([_value(name, 100)], [_value(name, 200)], 0.1)
    assert move.is_worse == rises_for_the_worse
    assert str(move).startswith("worse" if rises_for_the_worse else "better")


def test_the_command_prints_moves_and_fails_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _file(tmp_path / "before.json", COST, 100)
    after = _file(tmp_path / "after.json", COST, 200)
    assert main([before, after]) == 0
    assert f"worse   +100.0%  {COST}: 100 µs (90 – 110) → 200 µs" in capsys.readouterr().out
    assert main([before, after, "--fail"]) == 1
    assert main([after, before, "--fail"]) == 0
    assert "1 values compared, 1 moved beyond noise; 0 new, 0 not measured" in (
        capsys.readouterr().out
    )


def test_the_latest_results_become_the_baseline(tmp_path: Path) -> None:
    latest = _file(tmp_path / "latest.json", COST, 100)
    baseline = tmp_path / "baselines/here.json"
    with pytest.raises(SystemExit, match=r"here\.json is not there: run `make bench-full`"):
        main([str(baseline), latest])
    assert main([str(baseline), latest, "--accept"]) == 0
    assert main([str(baseline), latest, "--fail"]) == 0


def test_a_baseline_is_named_for_its_kind_of_machine() -> None:
    name = baseline_of("AMD EPYC, 2 cores, 24 GiB, Linux").name
    assert name == "amd-epyc-2-cores-24-gib-linux.json"
