"""What becomes of a training that has ended well: a registered adapter under a model name of its
own, the last epochs' checkpoints beside it, and a file with the metrics.

The adapter is registered first, so that a refusal leaves nothing behind.
"""

from __future__ import annotations

import csv
import io
import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from serving.adapters.acceptance import MAX_NAME_CHARS
from serving.errors import ServingError
from serving.finetune.plan import RESULT
from serving.finetune.training import KEPT_EPOCHS, unpack
from serving.store.files import Files
from serving.store.fine_tuning import Checkpoint, FineTuning, Job, Note
from serving.store.objects import ObjectStore
from serving.store.pages import Window
from serving.types import AdapterVersion, TenantId

log = logging.getLogger(__name__)
RESULTS_PURPOSE = "fine-tune-results"
COLUMNS = (
    *("step", "train_loss", "train_mean_token_accuracy", "valid_loss"),
    *("valid_mean_token_accuracy", "full_valid_loss", "full_valid_mean_token_accuracy"),
    *("train_reward_margin", "train_preference_accuracy"),
)
_STEPS = ".steps"  # ends the name under which earlier checkpoints are versions
_SHORT = 8  # characters of the job's id that end the model's name
_RECENT = 1_000  # files in which that of this job is looked for
_ONLY_STATE = "trainer.pt"


class Publisher(Protocol):
    """The registry's part in this."""

    def publish(
        self,
        tenant: TenantId,
        name: str,
        folder: Path,
        *,
        model: str | None = None,
        job: str | None = None,
        metrics: Mapping[str, Any] = ...,
    ) -> AdapterVersion: ...


class Publishing:
    def __init__(
        self,
        registry: Publisher,
        files: Files,
        store: FineTuning,
        states: ObjectStore,
        base_model: str,
    ) -> None:
        self._registry, self._files = registry, files
        self._store, self._states = store, states
        self._base_model = base_model

    def adapter(self, job: Job, folder: Path, metrics: Mapping[str, Any]) -> AdapterVersion:
        """Registers what was trained; the same again returns the version there is.

        Raises:
            ServingError: the registry refuses it.
        """
        return self._registry.publish(
            job.tenant,
            adapter_name(job),
            folder / RESULT,
            model=model_name(job, self._base_model),
            job=job.id,
            metrics=metrics,
        )

    def checkpoints(self, job: Job, folder: Path, last: AdapterVersion) -> list[Checkpoint]:
        """Makes models of the last epochs' checkpoints; the very last one is `last` itself."""
        found = [one for one in self._store.states(job.id) if "epoch" in one.metrics]
        if not found:
            return []
        *earlier, final = found[-KEPT_EPOCHS:]
        published = [self._published(job, folder, one, last) for one in earlier]
        return [*(one for one in published if one), _as_model(final, last)]

    def results(self, job: Job) -> str:
        """The id of a file with the job's metrics, a row for each step; of the one there is, if a
        worker was killed just after it had written it."""
        name = f"{job.id}-metrics.csv"
        for file in self._files.list(job.tenant, Window(limit=_RECENT), RESULTS_PURPOSE).items:
            if file.filename == name:
                return file.id
        data = table(self._store.metrics(job.id))
        return self._files.create(job.tenant, name, data, RESULTS_PURPOSE).id

    def _published(
        self, job: Job, folder: Path, checkpoint: Checkpoint, last: AdapterVersion
    ) -> Checkpoint | None:
        place = folder / f"checkpoint-{checkpoint.step}"
        try:
            unpack(self._states, str(checkpoint.state), place)
            (place / _ONLY_STATE).unlink()
            for name in ("card.json", "samples.jsonl"):
                shutil.copy(folder / RESULT / name, place / name)
            version = self._registry.publish(
                job.tenant,
                last.name[: MAX_NAME_CHARS - len(_STEPS)] + _STEPS,
                place,
                model=f"{model_name(job, self._base_model)}:ckpt-step-{checkpoint.step}",
                job=job.id,
                metrics=shown(checkpoint.metrics),
            )
        except (ServingError, FileNotFoundError):
            log.exception("checkpoint %d of %s is no model", checkpoint.step, job.id)
            return None
        return _as_model(checkpoint, version)


def adapter_name(job: Job) -> str:
    return job.body["user_provided_suffix"] or f"ft-{job.id[-_SHORT:]}"


def model_name(job: Job, base_model: str) -> str:
    """As OpenAI writes it: base, owner, suffix and the end of the job's id."""
    suffix = job.body["user_provided_suffix"] or ""
    return f"ft:{base_model}:{job.tenant}:{suffix}:{job.id[-_SHORT:]}"


def succeeded_notes(model: str, metrics: Mapping[str, Any]) -> list[Note]:
    notes = [Note(f"New fine-tuned model created: {model}")]
    if metrics:
        base, tuned = metrics["base"], metrics["tuned"]
        text = (
            f"Evaluated on the validation file: loss {base['loss']:.2f} → {tuned['loss']:.2f}, "
            f"token accuracy {base['mean_token_accuracy']:.2f} → "
            f"{tuned['mean_token_accuracy']:.2f}, exact answers {base['exact_match']:.2f} → "
            f"{tuned['exact_match']:.2f}"
        )
        notes.append(Note(text, data=metrics))
    return [*notes, Note("The job has successfully completed")]


def shown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in COLUMNS if name in metrics}


def table(metrics: Iterable[Mapping[str, Any]]) -> bytes:
    """CSV; a step that was repeated after a kill stands there once, as it was last."""
    rows: dict[int, dict[str, Any]] = {}
    for one in metrics:
        rows.setdefault(int(one["step"]), {}).update(shown(one))
    columns = [name for name in COLUMNS if any(name in row for row in rows.values())]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[step] for step in sorted(rows))
    return text.getvalue().encode()


def _as_model(checkpoint: Checkpoint, version: AdapterVersion) -> Checkpoint:
    model = version.model or version.id
    metrics = {**checkpoint.metrics, "model": model}
    return Checkpoint(checkpoint.step, checkpoint.state, metrics, adapter=version.id)
