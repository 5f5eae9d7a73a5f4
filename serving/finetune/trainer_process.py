"""The training process: `python -m serving.finetune.trainer_process FOLDER PARENT`.

Checks the files of one job or trains it, as the folder's plan says; see `plan.py`. It steps back
for whatever else the machine has to do, and ends with the worker that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from serving.finetune.plan import (
    TRAINING,
    VALIDATION,
    Plan,
    Reporter,
    read_plan,
)
from serving.finetune.training_file import BadFile, Example, read

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h
_NICENESS = 10


def main(folder: Path, parent: int) -> None:
    _end_with(parent)
    plan, report = read_plan(folder), Reporter(folder)
    _step_back(plan)
    try:
        work(plan, folder, report)
    except BadFile as error:
        report("failed", code=error.code, message=error.message, param=error.param)
    except MemoryError:
        report("failed", code="out_of_memory", message="The training ran out of memory.")
    except Exception as error:  # noqa: BLE001 - whatever it is, the worker must hear of it
        # No message: it may quote the training file.
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        report("crashed", error=f"{type(error).__name__} at {where}")


def work(plan: Plan, folder: Path, report: Reporter) -> None:
    training = read((folder / TRAINING).read_bytes(), plan.method)
    validation = _validation(plan, folder)
    # From here on it takes seconds to import what is needed.
    from serving.finetune.rendering import Renderer, Tokens, context_of

    renderer = Renderer(Tokens(plan.model, context_of(plan.model, plan.context)))
    lessons = renderer.lessons(training, "training_file")
    checks = renderer.lessons(validation, "validation_file")
    if plan.stage == "validate":
        seen = {lesson.rows for lesson in lessons}
        report(
            "validated",
            examples=len(lessons),
            tokens=sum(lesson.tokens for lesson in lessons),
            validation_examples=len(checks),
            shared_examples=sum(lesson.rows in seen for lesson in checks),
        )
        return
    import torch

    from serving.finetune.trainer import Diverged, Trainer

    torch.set_num_threads(plan.threads)
    try:
        ended = Trainer(plan, folder, lessons, checks, report).run()
    except Diverged as error:
        message = f"The training diverged: {error}. Lower 'learning_rate_multiplier'."
        report("failed", code="training_diverged", message=message)
    else:
        if not ended:
            report("stopped")


def _validation(plan: Plan, folder: Path) -> list[Example]:
    path = folder / VALIDATION
    return read(path.read_bytes(), plan.method, "validation_file") if path.exists() else []


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _step_back(plan: Plan) -> None:
    """Answering goes first. An idle task gets 3 of 1024 shares of a core that others want, and
    gives way at once when one of them wakes. First to go when the machine is out of memory."""
    os.nice(_NICENESS)
    if plan.idle_only and sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        _write("/proc/self/autogroup", "19")  # its own: the worker started a session for it
    _write("/proc/self/oom_score_adj", "1000")


def _write(path: str, text: str) -> None:
    with suppress(OSError):  # another kernel has it not
        Path(path).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
