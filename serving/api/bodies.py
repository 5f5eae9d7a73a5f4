"""What the routes of vector stores and their files take in their bodies, as OpenAI's SDK writes it.

Every field is known, typed and bounded: what is not is named in the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from serving.api.filter_body import Scalar
from serving.api.request import MAX_PARAM_CHARS, read_json, validated
from serving.errors import InvalidRequest
from serving.store.store_files import NewStoreFile

MAX_PAIRS, MAX_KEY, MAX_VALUE = 16, 64, 512
MAX_BATCH = 2_000  # files attached together
NUL = "\x00"  # PostgreSQL keeps none in a text

M = TypeVar("M", bound="Body")


async def read_body(request: Request, limit_bytes: int, model: type[M]) -> M:
    """The JSON body as a `model`.

    Raises:
        BodyTooLarge: it is over the limit.
        InvalidRequest: names the field that is unknown, missing or malformed.
    """
    return checked(model, await read_json(request, limit_bytes))


def checked(model: type[M], value: Mapping[str, Any]) -> M:
    check_plain(value)
    return validated(model, value)


def check_plain(value: Any) -> None:
    """Raises InvalidRequest if a string in it cannot be kept."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and NUL in item:
            raise InvalidRequest("the body holds a NUL character")
        if isinstance(item, dict):
            waiting += [part for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += item


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _attribute(value: Any) -> Any:
    if not isinstance(value, Scalar):
        raise ValueError("must be a string, a number or a boolean")
    if isinstance(value, str) and len(value) > MAX_VALUE:
        raise ValueError(f"must have at most {MAX_VALUE} characters")
    return value


Key = Annotated[str, Field(max_length=MAX_KEY)]
Attributes = Annotated[
    dict[Key, Annotated[Any, AfterValidator(_attribute)]], Field(max_length=MAX_PAIRS)
]
Metadata = Annotated[
    dict[Key, Annotated[str, Field(max_length=MAX_VALUE)]], Field(max_length=MAX_PAIRS)
]
Id = Annotated[str, Field(min_length=1, max_length=MAX_PARAM_CHARS)]
FileIds = Annotated[list[Id], Field(max_length=MAX_BATCH)]
Name = Annotated[str, Field(max_length=256)]
Weight = Annotated[float, Field(ge=0, le=1_000)]


class StaticChunking(Body):
    """In tokens."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _overlap_is_small(self) -> Self:
        if 2 * self.chunk_overlap_tokens > self.max_chunk_size_tokens:
            raise ValueError("'chunk_overlap_tokens' is more than half of 'max_chunk_size_tokens'")
        return self


class Chunking(Body):
    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _static_says_how(self) -> Self:
        if (self.static is not None) is not (self.type == "static"):
            raise ValueError("'static' goes with the type 'static', and only with it")
        return self


def kept(strategy: Chunking | None) -> dict[str, Any] | None:
    """As the store keeps it: None is Engram's own way."""
    return None if strategy is None or strategy.type == "auto" else strategy.model_dump()


class ExpiresAfter(Body):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


def days_of(policy: ExpiresAfter | None) -> int | None:
    return None if policy is None else policy.days


class Ranking(Body):
    """Weights of the two rankings that are fused."""

    dense: Weight
    lexical: Weight

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if self.dense == self.lexical == 0:
            raise ValueError("one of the weights must be above 0")
        return self


class StoreExtension(Body):
    """The `engram` field of a store."""

    ranking: Ranking | None = None


def weights_of(extension: StoreExtension | None) -> dict[str, float]:
    """The store's own, or none."""
    ranking = extension and extension.ranking
    return ranking.model_dump() if ranking else {}


class CreateStore(Body):
    name: Name | None = None
    description: Annotated[str, Field(max_length=MAX_VALUE)] | None = None
    file_ids: FileIds | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None
    engram: StoreExtension | None = None

    @property
    def files(self) -> list[NewStoreFile]:
        cut = kept(self.chunking_strategy)
        return [NewStoreFile(file_id, chunking=cut) for file_id in self.file_ids or ()]


class UpdateStore(Body):
    """What is absent stays; null clears."""

    name: Name | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    engram: StoreExtension | None = None


class AttachFile(Body):
    file_id: Id
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    @property
    def new(self) -> NewStoreFile:
        cut = kept(self.chunking_strategy)
        return NewStoreFile(self.file_id, self.attributes, cut)


class UpdateFile(Body):
    attributes: Attributes | None


class CreateBatch(Body):
    """With `files`, attributes and strategy beside them are ignored, as OpenAI does."""

    file_ids: FileIds | None = None
    files: Annotated[list[AttachFile], Field(max_length=MAX_BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.file_ids) is bool(self.files):
            raise ValueError("send 'file_ids' or 'files', one of them, with at least one file")
        return self

    @property
    def new(self) -> list[NewStoreFile]:
        if self.files:
            return [file.new for file in self.files]
        cut = kept(self.chunking_strategy)
        return [NewStoreFile(id, self.attributes, cut) for id in self.file_ids or ()]
