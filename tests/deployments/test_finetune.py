"""What of fine-tuning asks Ray for a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.deployments import finetune
from serving.finetune.plan import Plan


def plan(stage: Any) -> Plan:
    return Plan(
        stage=stage,
        job="ftjob-1",
        model="./nowhere",
        base_name="tiny",
        context=100,
        method="supervised",
        hyperparameters={},
        seed=1,
        rank=8,
        threads=1,
        idle_only=False,
        device="cpu",
        tokens_per_pass=100,
        checkpoint_every_s=1.0,
    )


class Asked:
    """Ray's task, which notes what it is asked for."""

    def __init__(self) -> None:
        self.gpus: list[float] = []

    def options(self, num_gpus: float) -> Any:
        self.gpus.append(num_gpus)
        return self

    def remote(self, *_: Any) -> None:
        return None


def test_files_are_checked_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Asked()
    monkeypatch.setattr(finetune, "_run", task)
    launcher = finetune.RayLauncher(0.5, 1)
    plan("validate").write(tmp_path)
    child = launcher.launch(tmp_path)
    assert child.exit_code() is None and task.gpus == []
    child.kill()
    plan("train").write(tmp_path)
    launcher.launch(tmp_path)
    assert task.gpus == [0.5]
