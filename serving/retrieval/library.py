"""What a retriever replica knows: the shelves of its shard, and every store there is.

Changed on the owner thread alone, so that no search sees half a change. Knows nothing of SQL.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from serving.retrieval.shard import Shard, shard_of
from serving.retrieval.shelf import Shelf, ShelfFile
from serving.store.chunks import Deletion, FileState, StoredChunk, StoreState
from serving.types import Passage, TenantId, VectorStoreId


class Library:
    """`seq`: every change up to there is in it. `deletions`: every deletion up to there.

    Deletions may run ahead of the rest, since a search looks for them first. A chunk that was
    read before its deletion and arrives after it is refused: its key is kept in `_gone` until
    nobody can still hold it.
    """

    def __init__(self, shard: Shard, dim: int, new_shelf: Callable[[], Shelf]) -> None:
        self.shard = shard
        self.seq = 0
        self.deletions = 0
        self.stores: dict[VectorStoreId, StoreState] = {}
        self.shelves: dict[VectorStoreId, Shelf] = {}
        self.incoming: set[VectorStoreId] = set()  # were split: their part is not all here yet
        self.outgrown: dict[VectorStoreId, int] = {}  # were split then: others' parts are here
        self._dim = dim
        self._new_shelf = new_shelf
        self._gone: dict[int, int] = {}  # key → number of its deletion

    def __len__(self) -> int:
        return sum(len(shelf.passages) for shelf in list(self.shelves.values()))

    def owns(self, tenant: TenantId, store: VectorStoreId) -> bool:
        """Whether the tenant has such a store."""
        state = self.stores.get(store)
        return state is not None and state.tenant == tenant

    def is_behind(self, store: VectorStoreId) -> bool:
        """Whether being asked for this store means that it was split, unnoticed here."""
        state = self.stores[store]
        return not state.split and shard_of(store, self.shard.of) != self.shard.number

    def holds(self, store: VectorStoreId, file_id: str) -> bool:
        state = self.stores.get(store)
        return state is not None and self.shard.holds(store, self.is_in_parts(store), file_id)

    def is_in_parts(self, store: VectorStoreId) -> bool:
        """Whether other shards must be asked too. A store's own shard keeps the whole for a while,
        so that nobody waits while the others load their parts."""
        state = self.stores.get(store)
        return state is not None and state.split and store not in self.outgrown

    def put_states(self, stores: Iterable[StoreState], files: Iterable[FileState]) -> None:
        for state in stores:
            if state.deleted:
                self.drop(state.id)
            else:
                self._note_split(state)
                self.stores[state.id] = state
        for file in files:
            if self.holds(file.store, file.file_id):
                shelf = self.shelves.get(file.store)
                if shelf is None:
                    shelf = self.shelves[file.store] = self._new_shelf()
                shelf.put_file(file.file_id, ShelfFile(file.filename, file.attributes))

    def _note_split(self, state: StoreState) -> None:
        known = self.stores.get(state.id)
        if self.shard.of == 1 or known is None or known.split == state.split:
            return
        if shard_of(state.id, self.shard.of) == self.shard.number:
            self.outgrown[state.id] = state.seq
        else:
            self.incoming.add(state.id)

    def drop(self, store: VectorStoreId) -> None:
        self.stores.pop(store, None)
        self.shelves.pop(store, None)
        self.incoming.discard(store)
        self.outgrown.pop(store, None)

    def accepted(self, chunks: Iterable[StoredChunk]) -> dict[VectorStoreId, list[StoredChunk]]:
        """The chunks that belong here, by store; for any thread. Vectors of another length are of
        another model, which a search refuses by the store's state."""
        accepted: dict[VectorStoreId, list[StoredChunk]] = defaultdict(list)
        for piece in chunks:
            if len(piece.embedding) == self._dim and self.holds(piece.store, piece.file_id):
                accepted[piece.store].append(piece)
        return accepted

    def add(
        self, store: VectorStoreId, passages: Mapping[int, Passage], rows: Sequence[StoredChunk]
    ) -> list[int]:
        """Makes chunks, whose words are there already, searchable; returns the keys of those that
        were deleted meanwhile."""
        shelf = self.shelves.get(store)
        late = [row.seq for row in rows if shelf is None or row.seq in self._gone]
        rows = [row for row in rows if shelf is not None and row.seq not in self._gone]
        if shelf is not None and rows:
            vectors = np.stack([row.embedding for row in rows])
            shelf.add({row.seq: passages[row.seq] for row in rows}, vectors)
        return late

    def remove(self, deleted: Iterable[Deletion]) -> dict[VectorStoreId, list[int]]:
        """Hides chunks; returns the keys by store, whose words remain to be removed."""
        keys: dict[VectorStoreId, list[int]] = defaultdict(list)
        for deletion in deleted:
            self._gone[deletion.key] = deletion.seq
            keys[deletion.store].append(deletion.key)
        for store, gone in keys.items():
            if store in self.shelves:
                self.shelves[store].remove(gone)
        return keys

    def settle(self, seq: int) -> None:
        """Everything up to `seq` has been applied."""
        self.seq = seq
        self.deletions = max(self.deletions, seq)
        if not self.incoming:  # whoever loads a part may hold chunks that were deleted since
            self._gone = {key: at for key, at in self._gone.items() if at > seq}
        for shelf in self.shelves.values():
            shelf.tidy()
