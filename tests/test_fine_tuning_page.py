"""docs/fine-tuning.md runs from its first block to its last: real jobs on a tiny model, which
answers by script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serving import cli
from serving.settings import ROOT, Settings
from tests.api.conftest import Gateway, serve
from tests.finetune.test_worker import working

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PAGE = (ROOT / "docs/fine-tuning.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENGRAM = ".venv/bin/engram "
MAY_SAY_NO = "gate"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Iterator[Gateway]:
    engine = {"kind": "scripted", "model": str(tiny_model_folder), "max_lora_rank": 8}
    finetune = {"idle_only": False, "poll_interval_s": 0.05}
    settings = Settings.model_validate(
        {
            "data": tmp_path_factory.mktemp("data"),
            "engine": engine,
            "retrieval": {"embedder": "hashing"},
            "ingest": {"poll_interval_s": 0.02},
            "finetune": finetune,
        }
    )
    with serve(settings) as running, working(settings):
        yield running


def run_commands(code: str) -> list[str]:
    """Runs the `engram` commands of a block; returns what they printed."""
    said = []
    for line in code.splitlines():
        if not line.startswith(ENGRAM):
            continue
        words = shlex.split(line.removeprefix(ENGRAM))
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0 or (MAY_SAY_NO in words and done.exit_code == 1), done.output
        said.append(done.output)
    return said


def test_the_page_runs_as_it_stands(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{gateway.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", gateway.client.api_key)
    known: dict[str, Any] = {}
    said: list[str] = []
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "docs/fine-tuning.md", "exec"), known)
        else:
            said += run_commands(code)
    known["admin"].close()
    known["client"].close()
    assert known["desk"].fine_tuned_model.startswith("ft:engram-demo:acme:desk:")
    assert known["answer"].engram["adapter"] in ("reader@1", "reader@2")
    _, prepared, gate, feedback = said
    assert "| counterfactual |" in prepared and "| reading |" in gate
    assert "12 pairs of 12 votes" in feedback
