"""Chunks on their way from the embedder to the one transaction that shows them all at once.

Beyond a few MiB they wait in a nameless file: memory stays the same however long the document is.
(Seen: worker 131 MiB, 117 of them before it began, and parser 119 MiB, for a PDF of 500 pages;
195 and 127 MiB for a text of 64 MiB.)
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import Self

from serving.store.drafts import NewChunk

IN_MEMORY_BYTES = 8 * 2**20


class Spool:
    """A context manager; what is added can be read any number of times until it is left."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def add(self, chunks: Iterable[NewChunk]) -> None:
        for chunk in chunks:
            pickle.dump(chunk, self._file, pickle.HIGHEST_PROTOCOL)
            self.count += 1

    def __iter__(self) -> Iterator[NewChunk]:
        self._file.seek(0)
        for _ in range(self.count):
            yield pickle.load(self._file)
