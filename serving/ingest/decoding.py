"""Bytes to text: UTF-8, UTF-16, or else Latin-1; whole, or in windows for files of any size."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator

WINDOW_CHARS = 256 * 1024
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 64 * 1024
_STEP_BYTES = 2**20
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\b"))
_MAX_CONTROLS = 0.01  # more than so many of a file's bytes, and it is no text


def encoding_of(data: bytes) -> str:
    """
    Raises:
        ValueError: it is not text.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if b"\x00" in data[:_SAMPLE_BYTES]:
        return _utf_16_without_mark(data)
    name = next(name for name in ("utf-8", "cp1252", "latin-1") if _is(data, name))
    sample = data[:_SAMPLE_BYTES]
    if len(sample) - len(sample.translate(None, _CONTROLS)) > _MAX_CONTROLS * len(sample):
        raise ValueError("it is binary")
    return name


def _utf_16_without_mark(data: bytes) -> str:
    """Latin letters in UTF-16 have a zero in every other byte."""
    sample = data[:_SAMPLE_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if zeros > len(sample) * 0.3 and others == 0 and len(data) % 2 == 0 and _is(data, name):
            return name
    raise ValueError("it is binary")


def _is(data: bytes, encoding: str) -> bool:
    """In steps, so that no second copy of a large file is made."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for start in range(0, len(data), _STEP_BYTES):
            decoder.decode(data[start : start + _STEP_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def decode(data: bytes) -> str:
    return printable(data.decode(encoding_of(data)).replace("\r\n", "\n").replace("\r", "\n"))


def open_text(data: bytes, newline: str | None = None) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding_of(data), newline=newline)


def windows(data: bytes) -> Iterator[str]:
    """The text in pieces, cut at a blank line if there is one, else at a line's end or a blank."""
    with open_text(data) as stream:
        rest = ""
        while piece := stream.read(WINDOW_CHARS):
            rest += printable(piece)
            if len(piece) < WINDOW_CHARS:
                continue
            cut = next((n for end in ("\n\n", "\n", " ") if (n := rest.rfind(end)) > 0), len(rest))
            yield rest[:cut]
            rest = rest[cut:]
        if rest:
            yield rest


def printable(text: str) -> str:
    """Without what SQL refuses: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "", text)
