from __future__ import annotations

import pytest

from loadtests.progress import Progress


def test_what_is_left_is_what_is_expected_less_what_was_spent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 100.0
    progress = Progress({"a": 60.0, "b": 120.0}, clock=lambda: now)
    assert progress.left_s() == 180
    progress.enter("a", "words")
    now += 20
    assert progress.left_s() == 160
    now += 80  # longer than expected
    assert progress.left_s() == 120
    progress.enter("b", "words")
    progress.say("a line")
    assert "   100 s,   2 min left  a line" in capsys.readouterr().out
