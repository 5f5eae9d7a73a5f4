from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from loadtests import trace
from loadtests.agreement import (
    TIMES,
    Agreement,
    AgreementError,
    Options,
    Seen,
    of_driver,
    of_locust,
    parse,
    rows,
    run,
    values,
    verdict,
)

LOCUST = """\
Type,Name,Request Count,Failure Count,Average Response Time
E2E,replay,3,0,300.5
ITL,replay,90,0,5.25
POST,replay,4,1,301
TPOT,replay,3,0,5.5
TTFT,replay,3,0,20.125
,Aggregated,4,1,301
"""


def _seen(factor: float, failed: int = 0) -> Seen:
    return Seen(dict.fromkeys(TIMES, 10.0 * factor), failed)


def test_clients_agree_within_the_tolerance_and_if_nothing_failed() -> None:
    near = Agreement([_seen(1.04), _seen(2.08)], [_seen(1.0), _seen(2.0)])
    assert near.agree and "They agree: 4.0% apart" in verdict(near)
    assert {value.name for value in values(near)} >= {"agreement.ttft", "agreement.e2e"}
    assert near.ratio("E2E").value == pytest.approx(1.04)  # neighbours cancel a slow turn
    assert not Agreement([_seen(1.06)], [_seen(1.0)]).agree
    assert not Agreement([_seen(0.94)], [_seen(1.0)]).agree
    assert not Agreement([_seen(1.0)], [_seen(1.0, failed=1)]).agree


def test_locusts_table_and_the_drivers_json_are_read_alike() -> None:
    means = {"TTFT": 20.125, "TPOT": 5.5, "ITL": 5.25, "E2E": 300.5}
    assert of_locust(LOCUST, 4) == Seen(means, failed=1)
    said = {f"{name.lower()}_ms": {"mean": ms} for name, ms in means.items()}
    assert of_driver(orjson.dumps({"requests": 4, "completed": 3, **said}), 4) == Seen(means, 1)


def test_a_client_that_sent_another_number_or_saw_nothing_is_an_error() -> None:
    with pytest.raises(AgreementError, match="Locust sent 4 requests instead of 5"):
        of_locust(LOCUST, 5)
    silent = {f"{name.lower()}_ms": {"mean": None} for name in TIMES}
    with pytest.raises(AgreementError, match="saw no TTFT"):
        of_driver(orjson.dumps({"requests": 4, "completed": 0, **silent}), 4)


def test_turns_ask_at_nearly_the_same_times_for_different_prompts(tmp_path: Path) -> None:
    options = parse(["--rate", "4", "--seconds", "2"])
    turns = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}.csv"
        path.write_text("\n".join(rows(options, seed)))
        turns.append(trace.read(path))
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(turns[0])]
    assert len(turns[0]) == 8 and gaps == pytest.approx([0.25] * 7, abs=0.011)
    first, second = ([trace.prompt(one, 1.0, 64) for one in arrivals] for arrivals in turns)
    assert len({*first[1:], *second[1:]}) == 14  # the first of a trace comes at 0 by definition


@pytest.mark.skipif(not find_spec("locust"), reason="needs the extra `loadtest`")
async def test_both_run_against_a_mock_and_write_a_page(tmp_path: Path) -> None:
    said: list[str] = []
    options = parse(["--rate", "10", "--seconds", "1", "--rounds", "1"])
    options = replace(options, output=tmp_path / "agreement.md", say=said.append)
    found = await run(options)
    assert [value.unit for value in found] == ["ratio"] * 4
    assert all(value.value > 0 for value in found)  # how near, a busy machine cannot tell
    page = options.output.read_text()
    assert len(said) == 2 and ", 0 failed." in page and "| TTFT |" in page


def test_options_need_a_model_for_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(parse([]), Options)
    with pytest.raises(SystemExit):
        parse(["--url", "http://127.0.0.1:8000/v1"])
    assert "--url needs --model" in capsys.readouterr().err
