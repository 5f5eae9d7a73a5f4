"""What killed workers left is dropped, and nothing that somebody still needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.finetune.job import TO_TRAIN, JobStatus, claimed
from serving.finetune.leftovers import SWEEP_S, UNNAMED_S, Leftovers
from serving.store.database import Database
from serving.store.fine_tuning import Checkpoint, FineTuning, Job
from serving.store.keys import Keys
from serving.store.objects import FolderObjects
from serving.types import TenantId

ACME = TenantId("acme")


class Place:
    """A store with one claimed job, and a clock to turn."""

    def __init__(self, root: Path) -> None:
        db = Database(f"sqlite:///{root / 'sql.db'}")
        db.migrate()
        Keys(db).ensure_tenant(ACME)
        self.store, self.states = FineTuning(db), FolderObjects(root / "states")
        self.work, self.now = root / "work", 0.0
        self.leftovers = Leftovers(self.store, self.states, self.work, lambda: self.now)
        self.store.create(Job("ftjob-1", ACME, JobStatus.QUEUED, {}, 1))
        self.store.claim(TO_TRAIN, lambda job: claimed(job, "held", 2e9))

    def sweep(self, after: float) -> None:
        self.now += after
        self.leftovers.sweep()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_folders_without_a_claim_are_dropped(place: Place) -> None:
    for claim in ("held", "lost"):
        (place.work / f"ftjob-1.{claim}").mkdir(parents=True)
        (place.work / f"ftjob-1.{claim}" / "training.jsonl").write_text("text")
    place.sweep(SWEEP_S)
    assert [path.name for path in place.work.iterdir()] == ["ftjob-1.held"]


def test_states_that_no_checkpoint_ever_named_are_dropped(place: Place) -> None:
    named, orphan = place.states.put(b"named"), place.states.put(b"orphan")
    place.store.write("held", "ftjob-1", None, [], [Checkpoint(1, named, {})])
    place.sweep(SWEEP_S)
    place.sweep(UNNAMED_S)
    late = place.states.put(b"its checkpoint is not written yet")
    assert place.states.exists(orphan)
    place.sweep(SWEEP_S)
    assert sorted(place.states.stored()) == sorted([named, late])
