"""Builds the whole demo model: tokenizer, pretraining, supervised fine-tuning, adapter.

`python -m deploy.demo.model.build --minutes 120`. A build that was cut off goes on where it
stopped; `--fresh` forgets what was there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

from deploy.demo.model import chat
from deploy.demo.model.train import RUNS, WEIGHTS

SHARES = {"pretrain": 0.05, "sft": 0.82, "lora": 0.13}


def step(name: str, *arguments: str) -> None:
    """Runs one module of this package to its end, unless an earlier build did."""
    done = RUNS / f"{name}.done"
    if done.exists():
        return
    module, *rest = arguments
    subprocess.run([sys.executable, "-m", f"deploy.demo.model.{module}", *rest], check=True)
    done.touch()


def build(minutes: float, seed: int) -> None:
    RUNS.mkdir(exist_ok=True)
    spent = {name: f"{minutes * share:.1f}" for name, share in SHARES.items()}
    if not (RUNS / "pretrain.pt").exists():
        chat.train_tokenizer(WEIGHTS)
    common = ("--seed", str(seed))
    step("pretrain", "train", "--stage", "pretrain", "--minutes", spent["pretrain"], *common)
    step(
        "sft",
        "train",
        "--stage",
        "sft",
        "--minutes",
        spent["sft"],
        "--start",
        str(RUNS / "pretrain.pt"),
        *common,
    )
    step("lora", "finetune", "--minutes", spent["lora"], *common)
    step("table", "evaluate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fresh", action="store_true")
    given = parser.parse_args()
    if given.fresh:
        shutil.rmtree(RUNS, ignore_errors=True)
    build(given.minutes, given.seed)


if __name__ == "__main__":
    main()
