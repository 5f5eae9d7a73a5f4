"""What a retriever holds of one vector store: its passages and the two indexes over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from serving.retrieval.chunker import searchable
from serving.retrieval.embedder import Vectors
from serving.retrieval.file_column import FileColumn, Mask
from serving.retrieval.filters import Keep
from serving.retrieval.index import Index, Keys
from serving.retrieval.lexical import Lexical
from serving.types import Passage


@dataclass(frozen=True, slots=True)
class ShelfFile:
    """What a file's passages share."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


INLINE = ShelfFile("")
FILTERS_REMEMBERED = 16


class Shelf:
    """Tenants are apart because their stores are. A chunk is found only while `passages` has it,
    whatever the indexes still say."""

    def __init__(self, index: Index, lexical: Lexical) -> None:
        self.index = index
        self.lexical = lexical
        self.passages: dict[int, Passage] = {}
        self._files: dict[str, ShelfFile] = {}
        self._keys_of: dict[str, set[int]] = {}  # by file
        self._emptied: set[str] = set()
        self._column = FileColumn()
        self._passing: dict[Keep, Mask] = {}  # until the next change

    def add_words(self, passages: Mapping[int, Passage]) -> None:
        """The lexical half of `add`, for any thread; goes first."""
        self.lexical.add({key: searchable(p.heading_path, p.text) for key, p in passages.items()})

    def add(self, passages: Mapping[int, Passage], vectors: Vectors) -> None:
        """Makes the passages, in the order of `vectors`, searchable."""
        self.index.add(np.fromiter(passages, np.int64), vectors)
        new = [key for key in passages if key not in self.passages]
        self._column.add(new, (passages[key].file_id for key in new))
        self._passing.clear()
        self.passages.update(passages)
        for key, passage in passages.items():
            self._keys_of.setdefault(passage.file_id, set()).add(key)

    def remove(self, keys: Sequence[int]) -> None:
        """From here on no search finds them."""
        gone = {key: self.passages.pop(key) for key in {*keys} & self.passages.keys()}
        self._column.remove(tuple(gone))
        self._passing.clear()
        for key, passage in gone.items():
            self._forget(passage.file_id, key)
        self.index.remove(np.array(keys, np.int64))

    def remove_words(self, keys: Sequence[int]) -> None:
        """The lexical half of `remove`, for any thread; goes last."""
        self.lexical.remove(keys)

    def _forget(self, file_id: str, key: int) -> None:
        self._keys_of[file_id].discard(key)
        if not self._keys_of[file_id]:
            del self._keys_of[file_id]
            self._emptied.add(file_id)

    def tidy(self) -> None:
        """Forgets the files that have no chunk left. Not before all changes were followed: a
        file that is ingested again loses its old chunks before it gets the new."""
        if not self._emptied:
            return
        for file_id in self._emptied:  # few: this runs between searches, whatever is here
            if file_id not in self._keys_of:
                self._files.pop(file_id, None)
        self._emptied.clear()
        self._passing.clear()

    def put_file(self, file_id: str, file: ShelfFile) -> None:
        self._files[file_id] = file
        self._passing.clear()

    def file(self, file_id: str) -> ShelfFile:
        return self._files.get(file_id, INLINE)

    def files(self) -> Iterable[str]:
        """Those that have chunks here."""
        return tuple(self._keys_of)

    def keys_of(self, file_id: str) -> Sequence[int]:
        return tuple(self._keys_of.get(file_id, ()))

    def allowed(self, keep: Keep) -> Keys:
        """The chunks of the files whose attributes pass, ascending. An equal `keep` should be the
        same object: between changes its answers are remembered."""
        mask = self._passing.get(keep)
        if mask is None:
            if len(self._passing) >= FILTERS_REMEMBERED:
                self._passing.clear()
            mask = self._column.mask(lambda file_id: keep(self.file(file_id).attributes))
            self._passing[keep] = mask
        return self._column.keys(mask)
