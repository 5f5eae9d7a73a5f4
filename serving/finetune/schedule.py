"""When the learning rate rises and falls, and when there is something to say: functions of the
step alone."""

from __future__ import annotations

import math

WARM_UP = 0.05  # of all steps
FLOOR = 0.03  # of the full rate, at the end
MAX_REPORTS = 1_000  # steps that a job's events tell of
VALIDATIONS = 20  # on a part of the validation file, over a whole job


def rate_share(step: int, steps: int) -> float:
    """The share of the full learning rate at step 1…`steps`: up in a line, down in a cosine."""
    warm = max(1, round(WARM_UP * steps))
    if step <= warm:
        return step / warm
    done = (step - warm) / max(1, steps - warm)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def is_told(step: int, steps: int) -> bool:
    return step % math.ceil(steps / MAX_REPORTS) == 0 or step == steps


def is_validated(step: int, steps: int) -> bool:
    return step % max(1, steps // VALIDATIONS) == 0
