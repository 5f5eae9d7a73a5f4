"""Turns a file's bytes into text with structure, part by part; name and content decide how.

The one place that knows which format has which parser. Runs in the sandbox: what is heavy or
hostile here ends a child process, never the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import PurePath

from serving.ingest.code_text import parse_code
from serving.ingest.csv_text import parse_csv
from serving.ingest.decoding import decode, windows
from serving.ingest.docx_text import parse_docx
from serving.ingest.file_types import BINARY, NAMES, SUFFIXES, recognise, type_by_name
from serving.ingest.html_text import parse_html
from serving.ingest.markdown_text import parse_markdown
from serving.ingest.pdf_text import parse_pdf
from serving.ingest.pptx_text import parse_pptx
from serving.ingest.unreadable import Unreadable, Unsupported
from serving.retrieval.chunker import Parsed, parse_plain

Parse = Callable[[bytes, str], Iterator[Parsed]]


def parse(filename: str, data: bytes) -> Iterator[Parsed]:
    """The file as text, in parts that each are whole sections.

    Raises:
        Unreadable: it is broken, has no text, or is not what its name says.
        Unsupported: there is no parser for its type.
    """
    parser = PARSERS[_type(filename, data)]
    path = PurePath(filename)
    title = path.name if parser is parse_code else path.stem
    has_text = False
    try:
        for part in parser(data, title):
            if part.blocks:
                has_text = True
                yield part
    except RecursionError as error:
        raise Unreadable(f"'{filename}' cannot be read: it is nested too deep.") from error
    except (MemoryError, Unreadable):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise Unreadable(f"'{filename}' cannot be read: {reason}.", param="file") from error
    if not has_text:
        raise Unreadable(f"'{filename}' has no text.", param="file")


def _type(filename: str, data: bytes) -> str:
    """The type that name and content agree on."""
    if not data:
        raise Unreadable(f"'{filename}' is empty.", param="file")
    named, content = type_by_name(filename), recognise(data)
    found = content.type if content else None
    promises = bool(PurePath(filename).suffix)
    if found is not None and not promises:
        return found
    if named is None or (content is not None and not promises):
        what = f" It is {content.name}." if content else ""
        known = ", ".join(sorted(SUFFIXES))
        raise Unsupported(f"'{filename}' is of no supported type ({known}).{what}", param="file")
    if found == named or (content is None and named not in BINARY):
        return named
    what = content.name if content else "something else"
    raise Unreadable(f"'{filename}' is named like {NAMES[named]} but is {what}.", param="file")


def _text(data: bytes, title: str) -> Iterator[Parsed]:
    return (parse_plain(window, title) for window in windows(data))


PARSERS: dict[str, Parse] = {
    "pdf": parse_pdf,
    "docx": lambda data, title: iter([parse_docx(data, title)]),
    "pptx": lambda data, title: iter([parse_pptx(data, title)]),
    "html": lambda data, title: iter([parse_html(data, title)]),
    "markdown": lambda data, title: iter([parse_markdown(decode(data), title)]),
    "table": parse_csv,
    "code": parse_code,
    "text": _text,
}
