from __future__ import annotations

from itertools import product

import pytest

from serving.adapters.lifecycle import TRANSITIONS, advance
from serving.errors import Conflict
from serving.types import AdapterId, VersionState

ID = AdapterId("legal@1")
LEGAL_MOVES = {
    ("staged", "promoted"),
    ("staged", "retired"),
    ("promoted", "staged"),  # another was promoted, or it was rolled back
    ("promoted", "retired"),
    ("retired", "promoted"),
    ("retired", "deleted"),
}


@pytest.mark.parametrize(("current", "new"), list(product(VersionState, repeat=2)))
def test_a_version_moves_only_as_the_table_says(current: VersionState, new: VersionState) -> None:
    if (current, new) in LEGAL_MOVES:
        assert advance(ID, current, new) is new
    else:
        with pytest.raises(Conflict, match=f"'legal@1' is {current} and cannot become {new}"):
            advance(ID, current, new)


def test_every_state_can_be_left_but_the_last() -> None:
    assert {state for state in VersionState if not TRANSITIONS[state]} == {VersionState.DELETED}
    assert set(TRANSITIONS) == set(VersionState)
