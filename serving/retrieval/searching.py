"""What a retriever does with a batch of searches, on the owner thread: looks for deletions, finds
each search's shelves, ranks. What can be refused alone is refused before it joins a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serving.errors import RetrievalFailed
from serving.retrieval.embedder import Embedder
from serving.retrieval.filters import Keep, compile_filter
from serving.retrieval.following import Follower
from serving.retrieval.fusion import Weights
from serving.retrieval.hybrid import Job, Place, Ranked, RankedHit, rank
from serving.retrieval.shelf import Shelf
from serving.store.chunks import StoreState, store_state
from serving.store.database import Database
from serving.store.scope import unknown_store
from serving.types import Search

MAX_QUERY_CHARS = 8192
FILTERS_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """A search for `depth` hits on its way to the owner thread. Its shelves are looked up there,
    after the newest deletions were applied. `hits` were ranked before, and are asked for again
    without those that were deleted since."""

    search: Search
    depth: int
    keep: Keep | None = None
    weights: Weights | None = None
    inline: Shelf | None = None
    hits: tuple[RankedHit, ...] | None = None


class Searcher:
    """`nudge` is called where deletions were found, since what replaces them should come soon."""

    def __init__(
        self,
        db: Database,
        follower: Follower,
        embedder: Embedder,
        candidates: int,
        nudge: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._db = db
        self._follower = follower
        self._embedder = embedder
        self._candidates = candidates
        self._nudge = nudge
        self._clock = clock
        self._keeps: dict[str, Keep] = {}

    def asked(self, search: Search, depth: int) -> Asked:
        """Any thread. A search that joined a batch and failed there would be in everybody's way.

        Raises:
            InvalidRequest: the filter or the weights are malformed.
            NotFound: the tenant has no such store.
            RetrievalFailed: a store was embedded with another model.
        """
        keep = self._compiled(search.filters) if search.filters else None
        weights = Weights.of(search.weights) if search.weights else None
        for state in self._states(search):
            if not self._is_due(state):
                self._check_embedder(state)
        return Asked(search, depth, keep, weights)

    def _compiled(self, filters: Mapping[str, Any]) -> Keep:
        """The same object for equal filters: by it, shelves know what passed before."""
        keep = compile_filter(filters)
        if len(self._keeps) >= FILTERS_REMEMBERED:
            self._keeps.clear()
        return self._keeps.setdefault(json.dumps(filters, sort_keys=True, default=repr), keep)

    def rank(self, asked: Sequence[Asked]) -> list[Ranked]:
        """One `Ranked` per search, in order."""
        if any(one.search.vector_stores for one in asked):
            known = self._follower.library.deletions
            self._follower.catch_deletions()
            if self._follower.library.deletions != known:
                self._nudge()
        jobs = [self._job(one) for one in asked if one.hits is None]
        ranked = iter(rank(jobs, self._embedder, self._candidates) if jobs else ())
        return [
            next(ranked) if one.hits is None else Ranked(self._present(one, one.hits))
            for one in asked
        ]

    def _job(self, asked: Asked) -> Job:
        search = asked.search
        places = [
            Place(shelf, asked.keep, asked.weights or Weights.of(state.ranking or None))
            for state in self._states(search)
            if (shelf := self._shelf(state)) is not None
        ]
        if asked.inline is not None:
            places.append(Place(asked.inline, weights=asked.weights or Weights()))
        query = search.query[-MAX_QUERY_CHARS:]  # the question stands last
        vector = np.array(search.query_embedding, np.float32)
        known = vector if len(vector) == self._embedder.dim else None
        return Job(query, asked.depth, tuple(places), search.score_threshold, known)

    def _present(self, asked: Asked, hits: Sequence[RankedHit]) -> tuple[RankedHit, ...]:
        """Without those that were deleted, alone or with their store."""
        shelves = {
            self._follower.library.shelves.get(store) for store in asked.search.vector_stores
        }
        shelves.add(asked.inline)
        return tuple(hit for hit in hits if hit.shelf in shelves and hit.key in hit.shelf.passages)

    def _states(self, search: Search) -> list[StoreState]:
        """The tenant's own stores.

        Raises:
            NotFound: the tenant has no such store.
        """
        library = self._follower.library
        states = []
        for store in dict.fromkeys(search.vector_stores):
            state = library.stores.get(store)
            if state is None or state.tenant != search.tenant:
                raise unknown_store(store)
            states.append(state)
        return states

    def _shelf(self, state: StoreState) -> Shelf | None:
        """None if there is nothing to search."""
        if self._is_expired(state):
            return None
        self._check_embedder(state)
        return self._follower.library.shelves.get(state.id)

    def _check_embedder(self, state: StoreState) -> None:
        if state.embedder not in (None, self._embedder.name):
            raise RetrievalFailed(
                f"Vector store '{state.id}' was embedded with '{state.embedder}', and this "
                f"retriever has '{self._embedder.name}': ingest its files again."
            )

    def _is_due(self, state: StoreState) -> bool:
        return state.expires_at is not None and self._clock() >= state.expires_at

    def _is_expired(self, state: StoreState) -> bool:
        """A store that was used lately may have got more time, which is not a change that is
        followed: so SQL is asked once more before a store counts as expired."""
        if not self._is_due(state):
            return False
        now = store_state(self._db, state.id)
        if now is None or now.deleted:
            return True
        renewed = replace(state, expires_at=now.expires_at)
        self._follower.library.stores[state.id] = renewed
        return self._is_due(renewed)
