"""Turns a file's bytes into text with structure; the file name's ending says how.

The one place that knows document formats. Every failure is an `InvalidRequest` that names the file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import PurePath

from pypdf import PdfReader

from serving.errors import InvalidRequest
from serving.ingest.html_text import parse_html
from serving.ingest.markdown_text import parse_markdown
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder, parse_plain

Parse = Callable[[bytes, str], Parsed]


def parse(filename: str, data: bytes) -> Parsed:
    """The file as text.

    Raises:
        InvalidRequest: the format is not supported, or the file is broken or has no text.
    """
    path = PurePath(filename)
    parser = PARSERS.get(path.suffix.lower())
    if parser is None:
        known = ", ".join(sorted(PARSERS))
        raise InvalidRequest(f"'{filename}' is of no supported type ({known}).", param="file")
    try:
        parsed = parser(data, path.stem)
    except Exception as error:
        raise InvalidRequest(f"'{filename}' cannot be read: {error}.", param="file") from error
    if not parsed.blocks:
        raise InvalidRequest(f"'{filename}' has no text.", param="file")
    return parsed


def _markdown(data: bytes, title: str) -> Parsed:
    return parse_markdown(_decode(data), title)


def _text(data: bytes, title: str) -> Parsed:
    return parse_plain(_decode(data), title)


def _html(data: bytes, title: str) -> Parsed:
    return parse_html(data, title)


def _pdf(data: bytes, title: str) -> Parsed:
    """A section per page, so that a citation can say where."""
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is protected by a password")
    builder = ParsedBuilder()
    for number, page in enumerate(reader.pages, 1):
        text = _printable(page.extract_text())
        if text.strip():
            builder.add(Kind.HEADING, f"Page {number}", level=2)
        for paragraph in re.split(r"\n\s*\n", _unwrapped(text)):
            builder.add(Kind.PARAGRAPH, paragraph)
    stated = reader.metadata.title if reader.metadata else None
    return builder.build(title=_printable(stated or ""), fallback_title=title)


def _unwrapped(text: str) -> str:
    """Without the hyphens that only end a line."""
    return re.sub(r"(\w)-\n(?=[a-z])", r"\1", text)


def _printable(text: str) -> str:
    """Without what SQL refuses: NUL and halves of surrogate pairs."""
    return re.sub("[\x00\ud800-\udfff]", "", text)


def _decode(data: bytes) -> str:
    if b"\x00" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("it is binary")
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return _printable(data.decode("utf-16" if is_utf16 else "utf-8-sig"))


PARSERS: dict[str, Parse] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
