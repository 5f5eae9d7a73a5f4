"""Starts a training process and watches over it; see `trainer_process.py`.

It gets a folder and a few harmless variables, none of the worker's secrets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

from serving.settings import ROOT

_ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME"),
    *("HF_HOME", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES"),
    "_ENGRAM_RUN",  # by which `engram down` knows what it has to end
)


class Running(Protocol):
    """A training process that was started."""

    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        ...

    def memory_bytes(self) -> int:
        """0 where that is not the worker's to watch."""
        ...

    def kill(self) -> None:
        """It has ended when this returns."""
        ...


class Launcher(Protocol):
    def launch(self, folder: Path) -> Running:
        """Starts what the plan in the folder says."""
        ...


class LocalLauncher:
    """As a child of this process. It ends with the thread that started it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def launch(self, folder: Path) -> Running:
        inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        threads = {"OMP_NUM_THREADS": str(self._threads), "MKL_NUM_THREADS": str(self._threads)}
        quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
        same = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # else a GPU adds up in any order
        module = "serving.finetune.trainer_process"
        return _Child(
            subprocess.Popen(
                [sys.executable, "-m", module, str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=inherited | threads | quiet | same,
                start_new_session=True,  # so that its place behind others is its own
            )
        )


class _Child:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        return self._process.poll()

    def memory_bytes(self) -> int:
        with suppress(psutil.NoSuchProcess):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
