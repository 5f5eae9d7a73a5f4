"""How long streams rest between chunks."""

from __future__ import annotations

import pytest

from serving.generation.pace import CHUNKS_PER_S, FREE_STREAMS, LONGEST_S, pause


@pytest.mark.parametrize("streams", [0, 1, FREE_STREAMS])
def test_few_streams_are_never_held_up(streams: int) -> None:
    assert pause(streams) == 0


@pytest.mark.parametrize("streams", [FREE_STREAMS + 1, 64, 150])
def test_many_streams_share_the_chunks_of_a_second(streams: int) -> None:
    assert streams / pause(streams) == pytest.approx(CHUNKS_PER_S)


def test_a_reader_never_waits_long_for_what_is_there() -> None:
    assert pause(100_000) == LONGEST_S
