"""Drops what killed workers left: states, files and folders that no training will need any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from serving.finetune.job import ENDED
from serving.finetune.training import forget
from serving.store.fine_tuning import FineTuning
from serving.store.objects import ObjectStore

SWEEP_S = 30.0
UNNAMED_S = 3_600.0  # a state that no checkpoint has named for so long was put by a killed worker


class Leftovers:
    """For one thread. Several workers may sweep the same place at once."""

    def __init__(
        self,
        store: FineTuning,
        states: ObjectStore,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._states, self._folder = store, states, folder
        self._clock = clock
        self._swept = -SWEEP_S
        self._unnamed: dict[str, float] = {}  # states, and since when

    def sweep(self) -> None:
        """Now and then; most calls do nothing."""
        now = self._clock()
        if now - self._swept < SWEEP_S:
            return
        self._swept = now
        for job_id in self._store.with_states(ENDED):
            forget(self._store, self._states, job_id, list(self._store.states(job_id)))
        self._sweep_states(now)
        self._sweep_folders()

    def _sweep_states(self, now: float) -> None:
        unnamed = set(self._states.stored()) - self._store.all_states()
        self._unnamed = {state: self._unnamed.get(state, now) for state in unnamed}
        for state, since in self._unnamed.items():
            if now - since > UNNAMED_S:
                self._states.delete(state)

    def _sweep_folders(self) -> None:
        """A claim is in SQL before its folder is made, so that one without a claim is nobody's."""
        claims = {path: path.suffix.removeprefix(".") for path in self._folder.glob("*.*")}
        held = self._store.held(claims.values())
        for path, claim in claims.items():
            if claim not in held:
                shutil.rmtree(path, ignore_errors=True)
