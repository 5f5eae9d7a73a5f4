"""The life of an adapter's version: which state may follow which, for every replica alike.

What one replica does with it (loading, draining) is in `adapter.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from serving.errors import Conflict
from serving.types import AdapterId, VersionState

TRANSITIONS: Mapping[VersionState, frozenset[VersionState]] = {
    VersionState.STAGED: frozenset({VersionState.PROMOTED, VersionState.RETIRED}),
    VersionState.PROMOTED: frozenset({VersionState.STAGED, VersionState.RETIRED}),
    VersionState.RETIRED: frozenset({VersionState.PROMOTED, VersionState.DELETED}),
    VersionState.DELETED: frozenset(),
}
_FIXES = {
    VersionState.DELETED: "retire it first",
    VersionState.STAGED: "promote it",
}


def advance(id: AdapterId, current: VersionState, new: VersionState) -> VersionState:
    """The new state, if the table allows it.

    Raises:
        Conflict: it does not; the message says what to do first.
    """
    if new in TRANSITIONS[current]:
        return new
    fix = _FIXES.get(new, "") if TRANSITIONS[current] else "publish it as a new version"
    reason = f"adapter '{id}' is {current} and cannot become {new}"
    raise Conflict(f"{reason}: {fix}" if fix else reason, param="adapter")
