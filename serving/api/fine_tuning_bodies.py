"""What creates a fine-tuning job, as OpenAI's SDK writes it; what is not done here is refused by
the name of its field."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serving.api.bodies import Body, Id, Metadata
from serving.finetune.jobs import NewJob

MAX_SEED = 2**31 - 1
MAX_SUFFIX = 64
_NAMES_SOMETHING = r"^[_-]*[A-Za-z0-9][A-Za-z0-9_-]*$"


def _or_auto(kind: type[int] | type[float], least: float, most: float) -> AfterValidator:
    """A number within the bounds, or `auto`; a lower bound of 0 is itself outside."""

    def check(value: Any) -> Any:
        if value is None or value == "auto":
            return value
        whole = isinstance(value, int) and not isinstance(value, bool)
        right = whole or (kind is float and isinstance(value, float))
        if not right or not (least or 1e-9) <= value <= most:
            bounds = f"between {least:g} and {most:g}" if least else f"above 0, up to {most:g}"
            name = "a whole number" if kind is int else "a number"
            raise ValueError(f"must be 'auto' or {name} {bounds}")
        return value

    return AfterValidator(check)


def _refused_integrations(value: list[Any]) -> list[Any]:
    if value:
        raise ValueError("integrations are not supported; follow the job's events instead")
    return value


def _supported(value: str) -> str:
    if value == "reinforcement":
        raise ValueError("'reinforcement' is not supported; use 'supervised' or 'dpo'")
    return value


class Supervised(Body):
    n_epochs: Annotated[Any, _or_auto(int, 1, 50)] = None
    batch_size: Annotated[Any, _or_auto(int, 1, 256)] = None
    learning_rate_multiplier: Annotated[Any, _or_auto(float, 0, 100)] = None


class Dpo(Supervised):
    beta: Annotated[Any, _or_auto(float, 0, 2)] = None


class SupervisedMethod(Body):
    hyperparameters: Supervised | None = None


class DpoMethod(Body):
    hyperparameters: Dpo | None = None


class MethodBody(Body):
    type: Annotated[Literal["supervised", "dpo", "reinforcement"], AfterValidator(_supported)]
    supervised: SupervisedMethod | None = None
    dpo: DpoMethod | None = None

    @model_validator(mode="after")
    def _only_its_own(self) -> Self:
        other = "dpo" if self.type == "supervised" else "supervised"
        if getattr(self, other) is not None:
            raise ValueError(f"'{other}' does not go with the type '{self.type}'")
        return self

    @property
    def hyperparameters(self) -> Supervised | None:
        method = self.dpo if self.type == "dpo" else self.supervised
        return None if method is None else method.hyperparameters


class CreateJob(Body):
    model: Id
    training_file: Id
    validation_file: Id | None = None
    method: MethodBody | None = None
    hyperparameters: Supervised | None = None
    suffix: Annotated[str, Field(max_length=MAX_SUFFIX, pattern=_NAMES_SOMETHING)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Any], AfterValidator(_refused_integrations)] | None = None

    @model_validator(mode="after")
    def _hyperparameters_once(self) -> Self:
        if self.method is None or self.hyperparameters is None:
            return self
        if self.method.type == "dpo" or self.method.hyperparameters is not None:
            raise ValueError("send hyperparameters in 'method' alone; the field beside is old")
        return self

    @property
    def new(self) -> NewJob:
        kept = self.hyperparameters or (self.method and self.method.hyperparameters)
        method = self.method.type if self.method else "supervised"
        return NewJob(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file,
            method="dpo" if method == "dpo" else "supervised",
            hyperparameters=kept.model_dump(exclude_none=True) if kept else {},
            suffix=self.suffix,
            seed=self.seed,
            metadata=self.metadata,
        )
