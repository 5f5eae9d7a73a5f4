"""The chunks of a shelf as two columns, key and file, so that a filter is asked once per file and
not once per chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.retrieval.index import Keys

Mask = NDArray[np.bool_]  # by the file's number, and one more at the end for the removed
GONE = -1
LEAST_ROWS = 64


class _Rows(NamedTuple):
    keys: Keys
    files: NDArray[np.int32]


class FileColumn:
    """Kept in the order of the keys, in which they nearly always come. A removed row stays, marked,
    until half of them are."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # in order, from 0
        self._rows = _room(LEAST_ROWS)
        self._used = 0
        self._gone = 0
        self._in_order = True

    def add(self, keys: Sequence[int], file_ids: Iterable[str]) -> None:
        """None of the keys is there yet."""
        if not keys:
            return
        numbers = [self._numbers.setdefault(id, len(self._numbers)) for id in file_ids]
        used = self._used + len(keys)
        if used > len(self._rows.keys):
            larger = _room(2 * used)
            larger.keys[: self._used], larger.files[: self._used] = self._filled()
            self._rows = larger
        new = slice(self._used, used)
        self._rows.keys[new], self._rows.files[new] = keys, numbers
        added = self._rows.keys[max(0, self._used - 1) : used]
        self._in_order &= bool((added[1:] > added[:-1]).all())
        self._used = used

    def remove(self, keys: Sequence[int]) -> None:
        """All of them are there."""
        self._order()
        filled = self._filled()
        filled.files[np.searchsorted(filled.keys, np.array(keys, np.int64))] = GONE
        self._gone += len(keys)
        if 2 * self._gone > self._used:
            self._compact()

    def mask(self, passes: Callable[[str], bool]) -> Mask:
        """Which files pass; good until the next change."""
        mask = np.zeros(len(self._numbers) + 1, np.bool_)
        mask[:-1] = np.fromiter(map(passes, self._numbers), np.bool_, len(self._numbers))
        return mask

    def keys(self, mask: Mask) -> Keys:
        """Of the files that pass, ascending."""
        self._order()
        filled = self._filled()
        return filled.keys[mask[filled.files]]

    def _filled(self) -> _Rows:
        return _Rows(self._rows.keys[: self._used], self._rows.files[: self._used])

    def _order(self) -> None:
        if not self._in_order:
            filled = self._filled()
            order = np.argsort(filled.keys, kind="stable")
            filled.keys[:], filled.files[:] = filled.keys[order], filled.files[order]
            self._in_order = True

    def _compact(self) -> None:
        """Forgets removed rows, and files that have no other."""
        filled = self._filled()
        kept = filled.files != GONE
        numbers, files = np.unique(filled.files[kept], return_inverse=True)
        names = list(self._numbers)
        self._numbers = {names[number]: new for new, number in enumerate(numbers.tolist())}
        self._rows = _Rows(filled.keys[kept], files.astype(np.int32))
        self._used, self._gone = len(files), 0


def _room(rows: int) -> _Rows:
    return _Rows(np.empty(rows, np.int64), np.empty(rows, np.int32))
