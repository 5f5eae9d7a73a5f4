"""Which retriever keeps which chunks: whole stores, or the files of a store that was split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from serving.types import VectorStoreId


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number`, from 0, of `of` shards."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, store: VectorStoreId, split: bool, file_id: str) -> bool:
        """Whether this shard keeps the file's chunks."""
        return shard_of(file_id if split else store, self.of) == self.number


WHOLE = Shard(0, 1)


def shard_of(name: str, shards: int) -> int:
    """The same for everybody and for ever, so that no table of places is needed."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards
