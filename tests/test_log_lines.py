from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.log_lines import BEHIND_S, LinesBehind


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logger(stream: io.StringIO, tmp_path: Path) -> Iterator[logging.Logger]:
    logger, handler = logging.Logger("test"), LinesBehind(stream, tmp_path / "log")
    logger.addHandler(handler)
    yield logger
    handler.close()


def _until(file: Path, text: str) -> bool:
    deadline = time.monotonic() + 100 * BEHIND_S
    while time.monotonic() < deadline:
        if file.exists() and file.read_text() == text:
            return True
        time.sleep(BEHIND_S / 10)
    return False


def test_what_was_said_is_written_behind_it(
    logger: logging.Logger, stream: io.StringIO, tmp_path: Path
) -> None:
    for number in range(3):
        logger.info("line %d", number)
    assert _until(tmp_path / "log", "line 0\nline 1\nline 2\n")
    assert stream.getvalue() == "line 0\nline 1\nline 2\n"


def test_a_warning_is_written_at_once_and_after_what_came_before(
    logger: logging.Logger, tmp_path: Path
) -> None:
    logger.info("before")
    logger.warning("now")
    assert (tmp_path / "log").read_text() == "before\nnow\n"


def test_a_file_that_was_moved_away_is_begun_again(logger: logging.Logger, tmp_path: Path) -> None:
    logger.warning("first")
    (tmp_path / "log").rename(tmp_path / "old")
    logger.warning("second")
    assert (tmp_path / "log").read_text() == "second\n"


def test_a_stream_that_is_closed_costs_no_request(
    logger: logging.Logger, stream: io.StringIO, tmp_path: Path
) -> None:
    stream.close()
    logger.warning("heard")
    assert (tmp_path / "log").read_text() == "heard\n"


def test_a_line_that_cannot_be_made_costs_no_request(
    logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.info("%d", "no number")
    assert "Logging error" in capsys.readouterr().err
    logger.warning("heard")
    assert (tmp_path / "log").read_text() == "heard\n"


def test_what_is_said_after_the_end_is_written_at_once(tmp_path: Path) -> None:
    logger, handler = logging.Logger("test"), LinesBehind(None, tmp_path / "log")
    logger.addHandler(handler)
    handler.close()
    logger.info("late")
    assert (tmp_path / "log").read_text() == "late\n"


def test_what_is_left_is_written_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import logging, sys, pathlib; from serving.log_lines import LinesBehind\n"
        "logger = logging.getLogger('x'); logger.setLevel('INFO')\n"
        "logger.addHandler(LinesBehind(None, pathlib.Path(sys.argv[1])))\n"
        "logger.info('last words')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")], check=True)
    assert (tmp_path / "log").read_text() == "last words\n"
