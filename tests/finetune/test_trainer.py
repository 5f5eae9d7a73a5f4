"""The training process's work, in this process, on the tiny random model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.adapters.validation import TARGETS
from serving.finetune.plan import (
    CHECKPOINTS,
    REPORTS,
    RESULT,
    RESUME,
    START,
    STOP,
    TRAINING,
    VALIDATION,
    Plan,
    Report,
    Reporter,
    ReportReader,
)
from serving.finetune.trainer_process import work
from serving.finetune.training_file import BadFile
from tests.finetune.files import chat, jsonl, preference

SIGNED = [chat(f"What is {n}?", f"It is {n}. Yours, Ada.") for n in range(24)]
PAIRS = [preference(f"What is {n}?", f"It is {n}.", f"No idea, {n}.") for n in range(16)]
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def torchs_own_ways_again() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


class Bench:
    """Folders to train in."""

    def __init__(self, root: Path, model: Path) -> None:
        self._root, self._model = root, model

    def folder(self, name: str, training: Any = SIGNED, validation: Any = None) -> Path:
        folder = self._root / name
        folder.mkdir()
        (folder / TRAINING).write_bytes(jsonl(*training))
        if validation is not None:
            (folder / VALIDATION).write_bytes(jsonl(*validation))
        return folder

    def plan(self, **changes: Any) -> Plan:
        fields: dict[str, Any] = {
            "stage": "train",
            "job": "ftjob-1",
            "model": str(self._model),
            "base_name": "tiny",
            "context": -1,
            "method": "supervised",
            "hyperparameters": {"n_epochs": 2, "batch_size": 8},
            "seed": 1,
            "rank": 8,
            "threads": 1,
            "idle_only": False,
            "device": "cpu",
            "tokens_per_pass": 4096,
            "checkpoint_every_s": 1e9,
        }
        return Plan(**fields | changes)

    def train(self, folder: Path, **changes: Any) -> list[Report]:
        reader = ReportReader(folder)
        work(self.plan(**changes), folder, Reporter(folder))
        return reader.new()


@pytest.fixture
def bench(tmp_path: Path, tiny_model_folder: Path) -> Bench:
    return Bench(tmp_path, tiny_model_folder)


def weights(folder: Path) -> bytes:
    return (folder / RESULT / WEIGHTS).read_bytes()


def last(reports: list[Report], kind: str) -> Report:
    return [report for report in reports if report["kind"] == kind][-1]


def test_what_it_writes_is_an_adapter_that_vllm_takes(bench: Bench) -> None:
    folder = bench.folder("a", validation=SIGNED[:4])
    reports = bench.train(folder)
    config = json.loads((folder / RESULT / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (8, 16, "none")
    tensors = load_file(folder / RESULT / WEIGHTS)
    assert {name.split(".")[-3] for name in tensors} == set(TARGETS)
    assert not any("embed" in name or "lm_head" in name for name in tensors)
    card = json.loads((folder / RESULT / "card.json").read_text())
    assert (card["base_model"], card["steps"], card["method"]) == ("tiny", 6, "supervised")
    assert len(card["base_fingerprint"]) == 64
    samples = (folder / RESULT / "samples.jsonl").read_text().splitlines()
    assert json.loads(samples[3]) == {"text": "What is 3?"} and len(samples) == 24
    compared = last(reports, "finished")["metrics"]
    assert compared["tuned"]["loss"] < compared["base"]["loss"]
    assert [report["step"] for report in reports if report["kind"] == "checkpoint"] == [3, 6]


def test_the_seed_decides(bench: Bench) -> None:
    folders = {name: bench.folder(name) for name in ("a", "b", "c")}
    for name, folder in folders.items():
        bench.train(folder, seed=2 if name == "c" else 1)
    assert weights(folders["a"]) == weights(folders["b"]) != weights(folders["c"])


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(bench: Bench, method: str) -> None:
    lines = SIGNED if method == "supervised" else PAIRS
    whole = bench.folder("whole", lines)
    changes = {"method": method, "hyperparameters": {"n_epochs": 2, "batch_size": 4}}
    bench.train(whole, checkpoint_every_s=0.0, **changes)
    steps = sorted((whole / CHECKPOINTS).iterdir(), key=lambda path: int(path.name[5:]))
    rest = bench.folder("rest", lines)
    shutil.copytree(steps[len(steps) // 2], rest / RESUME)
    reports = bench.train(rest, **changes)
    assert reports[0]["step"] == len(steps) // 2 + 1
    assert weights(rest) == weights(whole)


def test_asked_to_stop_it_leaves_a_checkpoint(bench: Bench) -> None:
    folder = bench.folder("a")
    (folder / STOP).touch()
    reports = bench.train(folder)
    assert [report["kind"] for report in reports] == ["started", "checkpoint", "stopped"]
    assert not (folder / RESULT).exists()


def test_memory_bounds_the_pass_not_the_step(bench: Bench) -> None:
    """The same step in one pass and in many: the same loss, within rounding."""
    losses = []
    for name, tokens in (("a", 4096), ("b", 64)):
        reports = bench.train(bench.folder(name), tokens_per_pass=tokens)
        losses.append([r["metrics"]["train_loss"] for r in reports if r["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_preference_is_learned(bench: Bench) -> None:
    folder = bench.folder("a", PAIRS, PAIRS[:4])
    hyperparameters = {"n_epochs": 4, "batch_size": 8, "learning_rate_multiplier": 10.0}
    reports = bench.train(folder, method="dpo", hyperparameters=hyperparameters)
    compared = last(reports, "finished")["metrics"]
    assert compared["base"]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert compared["base"]["reward_margin"] == 0
    assert compared["tuned"]["loss"] < 0.5
    assert compared["tuned"]["preference_accuracy"] == 1.0


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_it_can_start_from_an_adapter(bench: Bench, method: str) -> None:
    """Preferences are then measured against that adapter, not the base."""
    first = bench.folder("first")
    bench.train(first)
    lines = SIGNED if method == "supervised" else PAIRS
    second = bench.folder("second", lines)
    shutil.copytree(first / RESULT, second / START)
    reports = bench.train(second, method=method, hyperparameters={"n_epochs": 1, "batch_size": 8})
    [begin, *_] = [report for report in reports if report["kind"] == "step"]
    fresh = bench.train(
        bench.folder("fresh", lines), method=method, hyperparameters={"n_epochs": 1}
    )
    if method == "dpo":
        assert begin["metrics"]["train_loss"] == pytest.approx(0.693147, abs=1e-4)
    else:
        [other, *_] = [report for report in fresh if report["kind"] == "step"]
        assert begin["metrics"]["train_loss"] < other["metrics"]["train_loss"]
    assert set(load_file(second / RESULT / WEIGHTS)) == set(load_file(first / RESULT / WEIGHTS))


def test_a_loss_that_is_no_number_ends_the_training(bench: Bench) -> None:
    folder = bench.folder("a")
    start = bench.folder("start")
    bench.train(start)
    shutil.copytree(start / RESULT, folder / START)
    broken = {k: v * float("nan") for k, v in load_file(folder / START / WEIGHTS).items()}
    save_file(broken, folder / START / WEIGHTS)
    reports = bench.train(folder)
    assert reports[-1]["code"] == "training_diverged"
    assert "the training loss is nan at step 1" in reports[-1]["message"]
    assert not (folder / RESULT).exists()


@pytest.mark.parametrize("validation", [SIGNED[:4], None])
def test_a_last_step_that_breaks_the_weights_leaves_no_adapter(
    bench: Bench, validation: Any
) -> None:
    folder = bench.folder("a", validation=validation)
    wanted = {"n_epochs": 1, "batch_size": 24, "learning_rate_multiplier": 1e30}
    reports = bench.train(folder, hyperparameters=wanted)
    assert reports[-1]["code"] == "training_diverged"
    assert "the loss is nan after step 1" in reports[-1]["message"]
    assert not (folder / RESULT).exists()
    told = (folder / REPORTS).read_text()
    assert "NaN" not in told and "Infinity" not in told


def test_a_gradient_that_is_no_number_ends_the_training(bench: Bench) -> None:
    """The loss is still a number: what is so large is multiplied by nothing."""
    folder, start = bench.folder("a"), bench.folder("start")
    bench.train(start)
    shutil.copytree(start / RESULT, folder / START)
    parts = load_file(folder / START / WEIGHTS).items()
    broken = {k: v * 0 + (1e30 if "lora_B" in k else 0) for k, v in parts}
    save_file(broken, folder / START / WEIGHTS)
    reports = bench.train(folder)
    assert reports[-1]["code"] == "training_diverged"
    assert "the gradient is inf at step 1" in reports[-1]["message"]


def test_asked_to_stop_where_it_has_a_checkpoint_it_writes_no_other(bench: Bench) -> None:
    """Another would take the place of an epoch's, and of its metrics."""
    whole, rest = bench.folder("whole"), bench.folder("rest")
    bench.train(whole)
    shutil.copytree(whole / CHECKPOINTS / "step-3", rest / RESUME)
    (rest / STOP).touch()
    assert [report["kind"] for report in bench.train(rest)] == ["started", "stopped"]


def test_files_are_checked_against_the_model(bench: Bench) -> None:
    folder = bench.folder("a", validation=[SIGNED[0], chat("b " * 700, "c")])
    reports = bench.train(bench.folder("b", validation=SIGNED[:3]), stage="validate")
    assert reports[0]["examples"] == 24
    assert (reports[0]["validation_examples"], reports[0]["shared_examples"]) == (3, 3)
    with pytest.raises(BadFile, match=r"line 2: has \d+ tokens; the model's context is 512"):
        bench.train(folder, stage="validate")
