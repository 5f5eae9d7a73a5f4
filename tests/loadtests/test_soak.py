from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.arms import ArmError, Engram
from loadtests.processes import Tree
from loadtests.slopes import slope
from loadtests.soak import outcome
from loadtests.soak_report import Outcome, Soak, values, write
from loadtests.soak_samples import Held, Sample, lasting, sample, series
from serving.settings import EngineSettings

MINUTES = [float(60 * n) for n in range(30)]
GATEWAY, ENGINE, TRAINING = (1, 0.0), (2, 0.0), (3, 0.0)
CLEAN = Outcome({("POST", "single question"): 9, ("", "Aggregated"): 9}, [], 0)


def _growing(seed: int, seconds: list[float]) -> list[float]:
    """By 60 an hour, with noise as memory has it: neighbours are alike."""
    chance, noise, found = random.Random(seed), 0.0, []
    for at in seconds:
        noise = 0.7 * noise + chance.gauss(0, 1)
        found.append(at / 60 + noise)
    return found


def _samples(growth: float = 0.0, new_gateway_at: int = -1) -> list[Sample]:
    """Half an hour of two processes, one of which grows by so many MiB a minute."""
    samples = []
    for number, at in enumerate(MINUTES):
        gateway = (9, 1.0) if 0 <= new_gateway_at <= number else GATEWAY
        processes = {
            gateway: Held("gateway", 500 + growth * number, 50, 20),
            ENGINE: Held("engine core", 900, 40, 10),
        }
        if number % 2:
            processes[TRAINING] = Held("other", 300, 10, 1)
        samples.append(Sample(at, processes, {"gateway": 30.0}, 5.0))
    return samples


def _soak(samples: list[Sample], outcome: Outcome = CLEAN) -> Soak:
    return Soak(samples, samples[5:-1], outcome, 13, "python -m loadtests.soak")


def test_the_slope_of_a_line_is_its_own() -> None:
    found = slope(MINUTES, [3 + second / 60 for second in MINUTES])
    assert (found.per_hour, found.low, found.high) == pytest.approx((60, 60, 60))
    assert (found.first, found.last) == pytest.approx((3, 32))


def test_the_interval_holds_the_true_slope_about_as_often_as_it_says() -> None:
    seconds = [10.0 * n for n in range(150)]
    found = [slope(seconds, _growing(seed, seconds)) for seed in range(100)]
    assert sum(one.low <= 60 <= one.high for one in found) >= 88


def test_too_few_samples_have_no_slope() -> None:
    with pytest.raises(ValueError, match="19 samples are too few"):
        slope(MINUTES[:19], MINUTES[:19])


def test_what_comes_and_goes_is_counted_apart_from_what_stays() -> None:
    samples = _samples()
    assert lasting(samples) == {GATEWAY, ENGINE}
    found = series(samples)
    assert found["memory", "all"] == [1400.0] * 30
    assert found["processes", "all"][:2] == [2.0, 3.0]
    assert ("memory", "other") not in found


def test_a_quiet_soak_is_passed_and_a_growing_one_is_not(tmp_path: Path) -> None:
    assert _soak(_samples()).problems == []
    leaking = _soak(_samples(growth=1.0))
    assert leaking.problems == [
        "leak: memory of all grows by 1440 a day (> 1024)",
        "leak: memory of gateway grows by 1440 a day (> 1024)",
    ]
    write(leaking, tmp_path / "soak.md")
    text = (tmp_path / "soak.md").read_text()
    assert "**not passed**" in text
    assert "| memory (MiB) | gateway | 500, 529 | 505.0, 528.0 | +60.00 | +60.00 – +60.00 |" in text
    assert "<svg" in (tmp_path / "soak.svg").read_text()


def test_a_failed_request_and_a_replaced_process_are_problems() -> None:
    failed = Outcome(CLEAN.counts, ["POST search: HTTP 500 (1 ×)"], 1)
    assert _soak(_samples(), failed).problems == ["failed: POST search: HTTP 500 (1 ×)"]
    assert _soak(_samples(new_gateway_at=20)).problems == [
        "a process was replaced: gateway 1",
        "a process was replaced: gateway 9",
    ]


def test_tasks_that_outlive_the_load_are_a_problem() -> None:
    samples = _samples()
    samples[-1] = replace(samples[-1], tasks={"gateway": 45.0})
    assert _soak(samples).problems == ["left over: 15 tasks of gateway after the load"]


def test_values_are_of_the_whole_server() -> None:
    found = {value.name: value for value in values(_soak(_samples(growth=1.0)))}
    assert found["soak.requests"].value == 9
    assert (found["soak.memory.slope"].value, found["soak.memory.slope"].unit) == (60, "MiB/h")


def test_a_sample_reads_this_machine_and_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").write_bytes(bytes(2**20))
    text = '# HELP engram_asyncio_tasks x\nengram_asyncio_tasks{part="gateway"} 31.0\n'
    found = sample(1.0, Tree("nobody"), text, tmp_path)
    assert (found.processes, found.tasks, found.disk) == ({}, {"gateway": 31.0}, 1.0)


def test_what_locust_counted_is_read_and_a_run_without_a_table_says_why(tmp_path: Path) -> None:
    arm = Engram("engram", EngineSettings())
    arm.folder = tmp_path
    (tmp_path / "locust.log").write_text("Traceback: no such file")
    with pytest.raises(ArmError, match="no such file"):
        outcome(arm, 2)
    table = "Type,Name,Request Count\nPOST,search,3\n,Aggregated,3\n"
    (tmp_path / "locust_stats.csv").write_text(table)
    lost = "Method,Name,Error,Occurrences\nPOST,search,HTTP 500,2\n"
    (tmp_path / "locust_failures.csv").write_text(lost)
    found = outcome(arm, 1)
    assert (found.requests, found.failures) == (3, ["POST search: HTTP 500 (2 ×)"])
