"""Where log lines go: many in one write, a moment behind the request that said them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TextIO

BEHIND_S = 0.1


class LinesBehind(logging.Handler):
    """Formats each record once, when it is said, and writes to a stream and to a file.

    A warning or worse is written at once, with everything before it; so is what is left when the
    process ends, unless it is killed: that costs the lines of the last `BEHIND_S`. The file is
    opened for every write, so it may be moved away, and each write is whole, so processes may
    share it.
    """

    def __init__(self, stream: TextIO | None, file: Path) -> None:
        super().__init__()
        self._stream, self._file = stream, file
        self._lines: deque[str] = deque()
        self._said = threading.Event()
        self._writing = threading.Lock()
        self._closed = False
        threading.Thread(target=self._write_behind, name="engram-log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of `logging`: it costs no request
            self.handleError(record)
        if record.levelno >= logging.WARNING or self._closed:
            self.flush()
        elif not self._said.is_set():
            self._said.set()

    def flush(self) -> None:
        """Writes everything said so far. A full disk or a closed stream costs lines, no request."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                text = "\n".join(lines) + "\n"
                self._to_stream(text)
                self._to_file(text.encode(errors="replace"))

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self._closed = True
        self._said.set()
        self.flush()
        super().close()

    def _to_stream(self, text: str) -> None:
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()

    def _to_file(self, text: bytes) -> None:
        with suppress(OSError), self._file.open("ab", buffering=0) as file:
            file.write(text)

    def _write_behind(self) -> None:
        while not self._closed:
            self._said.wait()
            time.sleep(BEHIND_S)
            self._said.clear()
            self.flush()
