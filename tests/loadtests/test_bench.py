from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import orjson
import pytest

from loadtests import bench
from loadtests.first_token import AddedTable
from loadtests.paired import Paired
from loadtests.progress import Progress
from loadtests.records import Measured
from loadtests.section import Options, Section
from loadtests.sections import KEYS, SECTIONS


async def _fails(options: Options) -> AsyncGenerator[Measured, None]:
    yield AddedTable("rag", "One", "What.", Paired({"vllm": [1.0]}, 1.0), "vllm")
    raise OSError("no such server")


async def _works(options: Options) -> AsyncGenerator[Measured, None]:
    measured = Paired({"engram": [3.0, 4.0], "vllm": [1.0, 2.0]}, client_us_per_token=1.0)
    yield AddedTable("ttft", "Other", "What.", measured, "vllm")


async def test_a_section_that_fails_is_reported_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"bad": Section("x", _fails, 1, 1), "good": Section("y", _works, 1, 1)}
    monkeypatch.setattr(bench, "SECTIONS", sections)
    said: list[str] = []
    page, results = tmp_path / "docs/gateway.md", tmp_path / "results"
    options = Options(list(sections), False, [], 1, 1.0, 1, page, results, said.append)
    assert await bench.bench(options, Progress({"bad": 1, "good": 1})) == 1
    assert "section bad FAILED: no such server" in said
    assert "problem: bad: no such server" in said
    names = [value["name"] for value in orjson.loads((results / "latest.json").read_bytes())]
    assert "gateway.rag.vllm.ttft_p50" in names  # what it measured before is kept
    assert "gateway.ttft.engram_minus_vllm.ttft_p50" in names
    added = (
        "| `engram` − `vllm`: TTFT, median of pairs, 1 stream | 2.00 ms | 2.00 – 2.00 | ≤ 1 ms |"
    )
    assert added in page.read_text()


def test_the_short_run_has_the_headline_and_the_full_one_everything() -> None:
    assert bench.parse([]).sections == ["scripted", "model"]
    assert bench.parse(["--full"]).sections == list(SECTIONS)
    assert bench.parse(["--full", "--sections", "model"]).sections == ["model"]
    assert sum(one.expected_s(full=False) for one in SECTIONS.values()) <= 300
    assert len(set(KEYS)) == len(KEYS)
