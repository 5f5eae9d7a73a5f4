"""What a worker asks of a training process, and how the two talk: through files in one folder, so
that the process may as well run on another machine that sees it.

`plan.json`, the training files and the state to go on from are there when it starts. It appends to
`reports.jsonl` and writes `checkpoints/step-N/` and `result/`; a file `stop` asks it to end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from serving.finetune.training_file import Method

Stage = Literal["validate", "train"]
Report = Mapping[str, Any]

PLAN, REPORTS, STOP = "plan.json", "reports.jsonl", "stop"
TRAINING, VALIDATION = "training.jsonl", "validation.jsonl"
START, RESUME, CHECKPOINTS, RESULT = "start", "resume", "checkpoints", "result"


@dataclass(frozen=True, slots=True)
class Plan:
    """`model` is where its weights are, `base_name` what it is called; `context` in tokens, -1 is
    the model's own. `hyperparameters` as they were asked for."""

    stage: Stage
    job: str
    model: str
    base_name: str
    context: int
    method: Method
    hyperparameters: Mapping[str, Any]
    seed: int
    rank: int
    threads: int
    idle_only: bool
    device: Literal["cpu", "gpu"]
    tokens_per_pass: int
    checkpoint_every_s: float

    def write(self, folder: Path) -> None:
        (folder / PLAN).write_text(json.dumps(asdict(self)))


def read_plan(folder: Path) -> Plan:
    return Plan(**json.loads((folder / PLAN).read_text()))


class Reporter:
    """The process's end: a line of JSON for each report, whole once it is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, kind: str, **fields: Any) -> None:
        with (self._folder / REPORTS).open("a") as file:
            file.write(json.dumps({"kind": kind, **fields}) + "\n")

    def is_stopping(self) -> bool:
        return (self._folder / STOP).exists()


class ReportReader:
    """The worker's end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / REPORTS
        self._read = 0

    def new(self) -> list[Report]:
        """What was reported since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
