"""What a file is: by its name, and by its first bytes, which sometimes disagree."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePath
from typing import NamedTuple

# Endings of text that is split at blank lines and definitions, not read as prose.
CODE = frozenset(
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .java .kt .scala .go .rs .c .h .cc .cpp .hpp .cs .rb "
    ".php .swift .lua .pl .sh .bash .sql .json .jsonl .yaml .yml .toml .ini .cfg .conf .xml "
    ".css .scss .tex .proto .graphql .tf .gradle .cmake .diff .patch .properties".split()
)
TYPES = {
    "pdf": frozenset({".pdf"}),
    "docx": frozenset({".docx"}),
    "pptx": frozenset({".pptx"}),
    "html": frozenset({".html", ".htm", ".xhtml"}),
    "markdown": frozenset({".md", ".markdown", ".mdx"}),
    "table": frozenset({".csv", ".tsv"}),
    "code": CODE,
    "text": frozenset({".txt", ".text", ".log", ".rst", ".adoc", ".srt", ".vtt"}),
}
NAMES = {
    "pdf": "a PDF",
    "docx": "a Word document (DOCX)",
    "pptx": "a PowerPoint presentation (PPTX)",
    "html": "HTML",
    "markdown": "Markdown",
    "table": "a table (CSV)",
    "code": "source text",
    "text": "text",
}
BINARY = frozenset({"pdf", "docx", "pptx"})  # known by their first bytes
SUFFIXES = frozenset(suffix for suffixes in TYPES.values() for suffix in suffixes)


class Content(NamedTuple):
    """`type` is a key of `TYPES`, or None for what no parser is for; `name` is for people."""

    type: str | None
    name: str


_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"(\xb5/\xfd", "a Zstandard archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document (.doc, .xls, .ppt)"),
    (b"{\\rtf", "an RTF document"),
    (b"\x7fELF", "a Linux program"),
    (b"MZ\x90\x00", "a Windows program"),
    (b"\xca\xfe\xba\xbe", "a Java class or macOS program"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"ID3", "an MP3 recording"),
    (b"OggS", "an Ogg recording"),
    (b"RIFF", "a RIFF recording or image"),
    (b"%!PS", "a PostScript document"),
)
_OFFICE = (("word/document.xml", "docx"), ("ppt/presentation.xml", "pptx"))
_HEAD_BYTES = 1024  # a PDF may have a few bytes of something else before its mark


def type_by_name(filename: str) -> str | None:
    """The type that the ending stands for; a name without an ending stands for text."""
    suffix = PurePath(filename).suffix.lower()
    if not suffix:
        return "text"
    return next((name for name, suffixes in TYPES.items() if suffix in suffixes), None)


def recognise(data: bytes) -> Content | None:
    """What the first bytes say; None for text, and for bytes that say nothing."""
    head = data[:_HEAD_BYTES]
    if b"%PDF-" in head:
        return Content("pdf", NAMES["pdf"])
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _recognise_zip(data)
    return next((Content(None, name) for mark, name in _SIGNATURES if head.startswith(mark)), None)


def _recognise_zip(data: bytes) -> Content:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return Content(None, "a broken ZIP archive")
    for part, type_ in _OFFICE:
        if part in names:
            return Content(type_, NAMES[type_])
    return Content(None, "an Excel workbook" if "xl/workbook.xml" in names else "a ZIP archive")
