"""Brings what SQL says into a library: everything in its order, deletions ahead of it.

Whatever takes long (reading, words) happens off the owner thread, what must not be seen half done
on it, in slices so small that a search hardly waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from serving.errors import RetrievalFailed
from serving.retrieval.library import Library
from serving.retrieval.owner_thread import OwnerThread
from serving.store.chunks import (
    CannotFollow,
    Changes,
    StoredChunk,
    chunks_of,
    deletions,
    files_of,
    follow,
)
from serving.store.database import Database, SqlFailed
from serving.store.sequence import probe_changes, probe_deletions
from serving.types import Passage, VectorStoreId

log = logging.getLogger(__name__)
T = TypeVar("T")
SLICE = 256  # chunks added or removed at a time: 0.5 ms of the owner thread
FAILED_FOR_S = 1.0  # after SQL failed, searches fail at once instead of waiting for it in turn


class Follower:
    """`library` is the one that is searched; it is exchanged for a new one if SQL starts anew."""

    def __init__(
        self, db: Database, owner: OwnerThread[Any, Any], new_library: Callable[[], Library]
    ) -> None:
        self._db = db
        self._owner = owner
        self._new_library = new_library
        self.library = new_library()
        self._probe = probe_deletions(db)  # the owner thread's
        self._changes = probe_changes(db)  # whoever has the lock
        self._failed_at = -FAILED_FOR_S
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._begun = 0
        self._done = 0  # the newest run that ended well
        self._stopped = False

    def stop(self) -> None:
        """Returns when no run is under way; later ones do nothing."""
        self._stopped = True
        with self._loading, self._lock:
            self._probe.close()
            self._changes.close()

    def follow(self) -> int:
        """Applies all that is in SQL now; returns its number. Callers that wait share one run.

        Raises:
            SqlFailed: SQL does not answer.
        """
        begun_before = self._begun
        with self._lock:
            if self._done <= begun_before and not self._stopped:
                self._begun += 1
                self._follow()
                self._done = self._begun
            return self.library.seq

    def _follow(self) -> None:
        try:
            self._bring_up(self.library)
        except CannotFollow as reason:
            log.warning("starting over: %s", reason)
            library = self._new_library()
            self._bring_up(library)
            self._owner.call(lambda: self._exchange(library))

    def _exchange(self, library: Library) -> None:
        self.library = library

    def _bring_up(self, library: Library) -> None:
        if self._changes.read() == library.seq:
            return
        for changes in follow(self._db, library.seq):
            if self._stopped:
                return
            self._apply(library, changes)
            self._owner.call(lambda: library.settle(changes.seq))  # noqa: B023 — waited for

    def _apply(self, library: Library, changes: Changes) -> None:
        """Words come first and go last, since no search counts on them alone."""
        if changes.stores or changes.files:
            self._owner.call(lambda: library.put_states(changes.stores, changes.files))
        self.add(library, changes.chunks)
        for part in _slices(changes.deleted):
            removed = self._owner.call(lambda: library.remove(part))  # noqa: B023 — waited for
            for store, keys in removed.items():
                self._remove_words(library, store, keys)

    def add(self, library: Library, chunks: Iterable[StoredChunk]) -> None:
        """Makes chunks searchable, slice by slice."""
        for store, rows in library.accepted(chunks).items():
            shelf = library.shelves.get(store)
            if shelf is None:
                continue
            passages = {row.seq: _passage(row, shelf.file(row.file_id).name) for row in rows}
            shelf.add_words(passages)
            for part in _slices(rows):
                late = self._owner.call(lambda: library.add(store, passages, part))  # noqa: B023
                self._remove_words(library, store, late)

    def _remove_words(self, library: Library, store: VectorStoreId, keys: Sequence[int]) -> None:
        shelf = library.shelves.get(store)
        if shelf is not None and keys:
            shelf.remove_words(keys)

    def catch_deletions(self) -> None:
        """Applies deletions that are newer than what was followed; on the owner thread, before
        every batch that searches a store.

        Without SQL nobody can know whether a document was deleted, so a search fails rather than
        show one that was: a leak cannot be taken back, a failed search can be repeated.

        Raises:
            RetrievalFailed: SQL does not answer.
        """
        if time.monotonic() < self._failed_at + FAILED_FOR_S:
            raise RetrievalFailed(UNREACHABLE)
        try:
            newest = self._probe.read()
            if newest > self.library.deletions:
                self._hide(newest)
        except (SqlFailed, CannotFollow) as error:
            log.error("cannot look for deletions: %s", error)
            self._failed_at = time.monotonic()
            raise RetrievalFailed(UNREACHABLE) from error

    def _hide(self, upto: int) -> None:
        """The words stay until `follow` comes to the same deletions; alone they find nothing."""
        stores, chunks = deletions(self._db, self.library.deletions, upto)
        for store in stores:
            self.library.drop(store)
        self.library.remove(chunks)
        self.library.deletions = upto

    def load_incoming(self) -> bool:
        """Reads this shard's part of stores that were split, while following goes on, and searches
        of other stores; whether there was one."""
        with self._loading:
            incoming = () if self._stopped else tuple(self.library.incoming)
            for store in incoming:
                self._load(self.library, store)
            return bool(incoming)

    def _load(self, library: Library, store: VectorStoreId) -> None:
        with self._lock:  # or attributes that are followed meanwhile would be undone
            files = files_of(self._db, store)
            self._owner.call(lambda: library.put_states((), files))
        for chunks in chunks_of(self._db, store):
            if self._stopped or self.library is not library:
                return
            self.add(library, [row for row in chunks if not _is_there(library, row)])
        self._owner.call(lambda: library.incoming.discard(store))
        log.info("loaded this shard's part of a store that was split")

    def drop_foreign(self, store: VectorStoreId) -> None:
        """Forgets the chunks of a store that was split which other shards have by now. First it
        says so: from here on a search is told to ask the others too."""
        with self._loading:
            library = self.library
            with self._lock:  # or what is being added as if the whole stayed here would stay
                self._owner.call(lambda: library.outgrown.pop(store, None))
            shelf = library.shelves.get(store)
            for file_id in () if shelf is None else shelf.files():
                if self._stopped or library.holds(store, file_id) or shelf is None:
                    continue
                keys = shelf.keys_of(file_id)
                for part in _slices(keys):
                    self._owner.call(lambda: shelf.remove(part))  # noqa: B023 — waited for
                shelf.remove_words(keys)


UNREACHABLE = (
    "The database does not answer, so it is unknown whether a document was deleted. Try again."
)


def _is_there(library: Library, row: StoredChunk) -> bool:
    shelf = library.shelves.get(row.store)
    return shelf is not None and row.seq in shelf.passages


def _slices(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), SLICE):
        yield rows[start : start + SLICE]


def _passage(piece: StoredChunk, filename: str) -> Passage:
    return Passage(
        id=piece.id,
        text=piece.text,
        filename=filename,
        file_id=piece.file_id,
        title=piece.title,
        heading_path=piece.heading_path,
        start=piece.start,
        end=piece.end,
    )
