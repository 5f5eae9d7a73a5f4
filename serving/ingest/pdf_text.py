"""PDF to text, a page at a time: only one page's objects are in memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from pypdf import PdfReader
from pypdf.errors import PdfReadError

from serving.ingest.decoding import printable
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

MAX_PAGES = 20_000


def parse_pdf(data: bytes, title: str) -> Iterator[Parsed]:
    """A section per page, so that a citation can say where."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("it is protected by a password")
        pages = len(reader.pages)
        stated = reader.metadata.title if reader.metadata else None
    except PdfReadError as error:
        raise ValueError(f"it is a broken PDF ({error})") from error
    if pages > MAX_PAGES:
        raise ValueError(f"it has {pages} pages, at most {MAX_PAGES} are read")
    title = printable(stated or "") or title
    for number in range(pages):
        yield _page(reader.pages[number].extract_text(), number + 1, title)
        reader.resolved_objects.clear()  # pypdf would keep every page's fonts and streams


def _page(text: str, number: int, title: str) -> Parsed:
    builder = ParsedBuilder()
    text = printable(text)
    if text.strip():
        builder.add(Kind.HEADING, f"Page {number}", level=2)
    for paragraph in re.split(r"\n\s*\n", _unwrapped(text)):
        builder.add(Kind.PARAGRAPH, paragraph)
    return builder.build(title)


def _unwrapped(text: str) -> str:
    """Without the hyphens that only end a line."""
    return re.sub(r"(\w)-\n(?=[a-z])", r"\1", text)
