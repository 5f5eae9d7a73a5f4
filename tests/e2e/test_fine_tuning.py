"""Fine-tuning on the real engine: the style is learned and served, whatever is killed meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from openai import OpenAI

from serving.deployments import run as runs
from serving.settings import ROOT
from tests.finetune.files import chats, jsonl
from tests.running import Server, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
WITHIN_S = 400.0


def test_the_example_teaches_the_house_style(server: Server) -> None:
    """Upload, job, events with falling loss, `ft:…`, chat: all through OpenAI's SDK."""
    environ = server.environ | {"OPENAI_BASE_URL": server.base_url}
    ran = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "fine_tuning.py")],
        env=environ | {"OPENAI_API_KEY": server.api_key},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(
        r"in house style: engram-demo 0 of 10, ft:engram-demo:\S+ 10 of 10", ran.stdout
    )
    assert "Evaluated on the validation file: loss" in ran.stdout


@pytest.mark.parametrize("victim", ["trainer", "worker"])
def test_a_job_ends_well_though_its_process_is_killed(server: Server, victim: str) -> None:
    with OpenAI(base_url=server.base_url, api_key=server.api_key) as client:
        jobs = client.fine_tuning.jobs
        data = jsonl(*chats(40))
        file = client.files.create(file=("a.jsonl", data), purpose="fine-tune").id
        job = jobs.create(
            model="engram-demo",
            training_file=file,
            suffix=f"killed-{victim}",
            hyperparameters={"n_epochs": 10},
        ).id

        def said() -> list[str]:
            return [event.message for event in jobs.list_events(job, limit=100)]

        eventually(lambda: any("Checkpoint created" in text for text in said()), WITHIN_S)
        process = trainer(server) if victim == "trainer" else server.replica("finetune")
        assert process is not None
        process.kill()
        eventually(lambda: jobs.retrieve(job).status in ("succeeded", "failed"), WITHIN_S)
        ended = jobs.retrieve(job)
        assert ended.status == "succeeded", ended.error
        assert any("continues after step" in text for text in said())
        answer = client.chat.completions.create(
            model=str(ended.fine_tuned_model),
            temperature=0,
            messages=[{"role": "user", "content": "What is 7?"}],
        )
        assert (answer.choices[0].message.content or "").endswith("Yours, Ada.")


def trainer(server: Server) -> psutil.Process | None:
    for process in runs.processes(server.run):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if "serving.finetune.trainer_process" in process.cmdline():
                return process
    return None
