"""The arithmetic on known answers, and the whole against a gateway whose slots are few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import overload_report
from loadtests.answer import Answer
from loadtests.client import Target
from loadtests.load import Load
from loadtests.overload import Found, Limited, Options, Step, failures, find, knee
from loadtests.processes import Tree
from loadtests.report import Value
from loadtests.timing import Slo
from serving.settings import AdmissionSettings, EngineSettings
from tests.api.conftest import scripted, serve

SLO = Slo(ttft=1000.0, tpot=50.0)
OPTIONS = Options(seconds=10.0, slo=SLO, say=lambda line: None)


def _answers(good: int = 0, late: int = 0, refused: int = 0, failed: int = 0) -> list[Answer]:
    answer = Answer(0.0, first=0.1, last=0.2, usage={"completion_tokens": 3}, error=None, ended=0.2)
    gone = Answer(0.0, error="HTTP 503", status=503, ended=0.004)
    return [
        *(replace(answer, status=200) for _ in range(good)),
        *(replace(answer, status=200, first=1.1, last=1.2, ended=1.2) for _ in range(late)),
        *(replace(gone, retry_after=1.0) for _ in range(refused)),
        *(gone for _ in range(failed)),
    ]


def _step(multiple: float, rate: float, cpu_s: float = 1.0, **answers: int) -> Step:
    load = Load(_answers(**answers), 10.0, 0.5, 10.0)
    return Step(multiple, rate, load, {"gateway": cpu_s}, 100.0)


FOUND = Found(
    capacity=10.0,
    ladder=[_step(0, 5.0, good=50), _step(0, 10.0, good=100), _step(0, 12.0, good=90, late=30)],
    knee=_step(0, 10.0, good=100),
    turns=[
        _step(1, 10.0, cpu_s=2.0, good=100),
        _step(2, 20.0, cpu_s=3.0, good=95, refused=105),
        _step(5, 50.0, cpu_s=3.6, good=92, refused=405, failed=3),
    ],
)


def test_the_knee_is_where_goodput_is_highest_not_where_most_is_answered() -> None:
    assert knee(FOUND.ladder, SLO).rate == 10.0


def test_values_compare_with_the_knee() -> None:
    values = {value.name: value.value for value in overload_report.values(FOUND, OPTIONS)}
    assert values["overload.x2.goodput_over_knee"] == pytest.approx(0.95)
    assert values["overload.x5.goodput_over_knee"] == pytest.approx(0.92)
    assert (values["overload.x2.failed"], values["overload.x5.failed"]) == (0, 3)
    assert values["overload.x5.refusal_p99"] == pytest.approx(4.0)


def test_the_page_says_what_was_offered_and_what_failed(tmp_path: Path) -> None:
    options = replace(OPTIONS, output=tmp_path / "overload.md")
    overload_report.write(FOUND, [FOUND.turns[-1]], options, 0.5)
    page = (tmp_path / "overload.md").read_text()
    assert "| **5 × knee** | 50.0 | 9.2 | 81% | 3 | 100 / 100 |" in page
    assert "500 requests, 3 failed" in page
    assert "overload.svg" in page and (tmp_path / "overload.svg").read_text().startswith("<svg")


def test_what_was_neither_answered_nor_refused_is_a_failure() -> None:
    none, three = Value("overload.x2.failed", 0, 0, 0, ""), Value("overload.x5.failed", 3, 3, 3, "")
    assert failures([none, three]) == ["3 overload.x5.failed"]
    assert not failures([none])


def test_limits_reach_the_server_that_is_started() -> None:
    arm = Limited("x", EngineSettings(), admission=AdmissionSettings(max_running=7))
    arm.target, arm.folder = Target(1), Path("/nowhere")
    assert arm.variables()["ENGRAM_ADMISSION__MAX_RUNNING"] == "7"
    assert arm.variables()["ENGRAM_DATA"] == "/nowhere/data"


async def test_what_a_full_gateway_cannot_take_is_refused_and_nothing_fails(tmp_path: Path) -> None:
    engine = {"kind": "scripted", "max_num_seqs": 4, "extra_args": {"ttft_s": 0.1}}
    limits = {"max_running": 4, "max_wait_s": 0.3}
    with serve(scripted(tmp_path, engine=engine, admission=limits)) as gateway:
        key = gateway.http.headers["authorization"].removeprefix("Bearer ")
        target = Target(int(gateway.url.rpartition(":")[2]), api_key=key)
        options = replace(OPTIONS, seconds=0.4, repeats=1, slots=4, max_tokens=8)
        found = await find(target, Tree("nobody"), options)
    for step in [*found.ladder, *found.turns]:
        assert not step.load.errors
        assert all(answer.retry_after for answer in step.load.refused)
    assert found.at(5.0)[0].load.refused
