from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from serving import settings
from serving.commands import ingest
from serving.upload.plan import Plan
from serving.upload.uploader import Sent
from tests.running import engram, environment

pytestmark = pytest.mark.timeout(400)


def test_settings_lists_every_variable(tmp_path: Path) -> None:
    shown = engram("settings", environ=environment(tmp_path, {"COLUMNS": "200"}))
    for key, _, _ in settings.fields():
        assert settings.PREFIX + key.upper().replace(".", "__") in shown.stdout


@pytest.mark.parametrize("command", [["up"], ["down"], ["status"], ["ingest"], ["key", "create"]])
def test_every_command_explains_itself(tmp_path: Path, command: list[str]) -> None:
    shown = engram(*command, "--help", environ=environment(tmp_path, {}))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Usage" in shown.stdout


def test_an_unknown_setting_is_one_line_that_names_the_nearest(tmp_path: Path) -> None:
    wrong = environment(tmp_path, {"ENGRAM_SERVER__PROT": "8001"})
    up = engram("up", environ=wrong)
    assert up.returncode == 1
    assert "did you mean 'server.port'" in up.stderr
    assert len(up.stderr.strip().splitlines()) == 1


def test_down_and_status_are_safe_when_nothing_runs(tmp_path: Path) -> None:
    quiet = environment(tmp_path, {})
    assert engram("down", environ=quiet).returncode == 0
    assert engram("status", environ=quiet).returncode == 1


def test_a_created_key_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    made = engram(
        *"key create --tenant acme --name shop".split(), environ=environment(tmp_path, {})
    )
    token = made.stdout.strip()
    assert token.startswith("sk-engram-")
    assert token.encode() not in (tmp_path / "engram.sqlite").read_bytes()


def test_ingest_without_a_key_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A")
    asked = engram("ingest", str(tmp_path), "--store", "a", environ=environment(tmp_path, {}))
    assert asked.returncode == 1
    assert "OPENAI_API_KEY" in asked.stderr


def test_progress_is_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "SAY_EVERY_S", 0.0)
    said = io.StringIO()
    with ingest._progress(3, "docs", Console(file=said, force_terminal=False)) as report:
        for n in range(3):
            report(Sent(f"{n}.md", chunks=2))
    lines = [line for line in said.getvalue().splitlines() if "files/s" in line and "left" in line]
    assert lines[0].startswith("1/3 files, 2 chunks, ")
    assert lines[1].startswith("2/3 files, 4 chunks, ")


def test_the_summary_says_time_chunks_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    sent = [Sent("a.md", chunks=3), Sent("b.md", chunks=4)]
    ingest._summarise("vs_1", Plan(unchanged=5), sent, 1.25, 400 * 2**20, as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("2 files in 1.2 s, 7 chunks, worker up to 400 MiB; 0 deleted, 5 unch")
    ingest._summarise("vs_1", Plan(unchanged=5), sent, 1.25, None, as_json=True)
    counts = json.loads(capsys.readouterr().out)
    assert (counts["chunks"], counts["seconds"], counts["worker_memory_bytes"]) == (7, 1.25, None)
