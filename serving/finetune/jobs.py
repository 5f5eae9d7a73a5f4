"""Fine-tuning jobs for those who ask for them: create, pause, resume, cancel, and read.

What is asked for is checked here; the files' content is the worker's to check, as in OpenAI's API,
since a large file takes a while.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.errors import InvalidRequest, NotFound, RateLimited, UnknownModel
from serving.finetune.job import ENDED, JobStatus, cancelled, paused, resumed
from serving.finetune.training_file import Method, Param
from serving.store.files import Files
from serving.store.fine_tuning import FineTuning, Job, Note
from serving.types import AdapterId, TenantId

PURPOSE = "fine-tune"
RETRY_AFTER_S = 60.0


class Version(Protocol):
    @property
    def id(self) -> AdapterId: ...


class Versions(Protocol):
    """The registered adapters, by `name`, `name@3` or `ft:…`; raises UnknownModel."""

    def find(self, tenant: TenantId, name_or_id: str) -> Version: ...


@dataclass(frozen=True, slots=True)
class NewJob:
    """`hyperparameters` as they were asked for: numbers, or `auto`."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method = "supervised"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    suffix: str | None = None
    seed: int | None = None
    metadata: Mapping[str, str] | None = None


class Jobs:
    def __init__(
        self,
        store: FineTuning,
        files: Files,
        versions: Versions,
        base_model: str,
        max_active: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._files = files
        self._versions = versions
        self._base_model = base_model
        self._max_active = max_active
        self._clock = clock

    def create(self, tenant: TenantId, new: NewJob) -> Job:
        """Raises:
        NotFound: no such file, or another tenant's.
        UnknownModel: no such model to start from.
        InvalidRequest: a file was uploaded for another purpose.
        RateLimited: the tenant has too many jobs that have not ended.
        """
        if new.suffix == self._base_model:
            raise InvalidRequest(
                "'suffix' is the base model's name; an adapter has its own", param="suffix"
            )
        model = self._model(tenant, new.model)
        self._check_file(tenant, new.training_file, "training_file")
        if new.validation_file is not None:
            self._check_file(tenant, new.validation_file, "validation_file")
        self._check_active(tenant)
        job = Job(
            id=f"ftjob-{secrets.token_hex(12)}",
            tenant=tenant,
            status=JobStatus.VALIDATING_FILES,
            body=_body(tenant, model, new),
            created_at=int(self._clock()),
        )
        return self.store.create(
            job,
            Note(f"Created fine-tuning job: {job.id}"),
            Note(f"Validating training file: {new.training_file}"),
        )

    def pause(self, tenant: TenantId, job_id: str) -> Job:
        """A running job writes a checkpoint and lets go of its worker within seconds."""
        return self.store.change(tenant, job_id, paused, Note("Fine-tuning job paused on request"))

    def resume(self, tenant: TenantId, job_id: str) -> Job:
        return self.store.change(tenant, job_id, resumed, Note("Fine-tuning job resumed"))

    def cancel(self, tenant: TenantId, job_id: str) -> Job:
        def change(job: Job) -> Job:
            return cancelled(job, int(self._clock()))

        return self.store.change(tenant, job_id, change, Note("Fine-tuning job cancelled"))

    def _model(self, tenant: TenantId, model: str) -> str:
        """The base model, or one version of an adapter, whatever it was called."""
        if model == self._base_model:
            return model
        try:
            return self._versions.find(tenant, model).id
        except UnknownModel:
            raise UnknownModel(
                f"the model '{model}' cannot be fine-tuned: use '{self._base_model}' or one of"
                " your fine-tuned models",
                param="model",
            ) from None

    def _check_file(self, tenant: TenantId, file_id: str, param: Param) -> None:
        try:
            file = self._files.get(tenant, file_id)
        except NotFound as error:
            raise NotFound(error.message, param=param) from None
        if file.purpose != PURPOSE:
            raise InvalidRequest(
                f"the file '{file_id}' was uploaded for the purpose '{file.purpose}';"
                f" upload it for '{PURPOSE}'",
                param=param,
            )

    def _check_active(self, tenant: TenantId) -> None:
        if self._max_active == 0:
            raise InvalidRequest("nothing is trained here: `server.finetune_workers` is 0")
        active = [status for status in JobStatus if status not in ENDED]
        if self.store.count(active, tenant) >= self._max_active:
            raise RateLimited(
                f"{self._max_active} fine-tuning jobs have not ended yet; wait, or cancel one",
                retry_after_s=RETRY_AFTER_S,
            )


def _body(tenant: TenantId, model: str, new: NewJob) -> dict[str, Any]:
    names = ["n_epochs", "batch_size", "learning_rate_multiplier"]
    names += ["beta"] if new.method == "dpo" else []
    wanted = {name: new.hyperparameters.get(name) or "auto" for name in names}
    seed = new.seed if new.seed is not None else secrets.randbelow(2**31)
    return {
        "model": model,
        "fine_tuned_model": None,
        "organization_id": tenant,
        "training_file": new.training_file,
        "validation_file": new.validation_file,
        "hyperparameters": {name: wanted[name] for name in names[:3]},
        "method": {"type": new.method, new.method: {"hyperparameters": wanted}},
        "user_provided_suffix": new.suffix,
        "seed": seed,
        "metadata": None if new.metadata is None else dict(new.metadata),
        "integrations": [],
        "result_files": [],
        "trained_tokens": None,
        "estimated_finish": None,
        "error": None,
    }
