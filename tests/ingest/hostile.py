"""Files that mean harm, or only look like what they say: name, bytes and why each is refused."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from typing import Any

from docx import Document
from pypdf import PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, NumberObject

from tests.ingest.test_parsers import docx, pdf, pptx

EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    b"<w:body><w:p><w:r><w:t>&secret;</w:t></w:r></w:p></w:body></w:document>"
)


def zipped(**parts: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), data)
    return out.getvalue()


def with_part(document: bytes, name: str, data: bytes) -> bytes:
    """The document with one part in the place of its own."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(document)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.namelist():
            if entry != name:
                new.writestr(entry, old.read(entry))
        new.writestr(name, data)
    return out.getvalue()


def bomb() -> bytes:
    return with_part(docx(), "word/media/image.bin", bytes(300 * 2**20))


def liar() -> bytes:
    """Says that its largest part is small."""
    data = bytearray(with_part(docx(), "word/media/image.bin", bytes(8 * 2**20)))
    size = (8 * 2**20).to_bytes(4, "little")
    return bytes(data.replace(size, (1000).to_bytes(4, "little")))


def crowd() -> bytes:
    out = io.BytesIO(docx())
    with zipfile.ZipFile(out, "a") as archive:
        for n in range(5_000):
            archive.writestr(f"word/media/{n}.bin", b"")
    return out.getvalue()


def nested() -> bytes:
    inner = zipped(a=bytes(10 * 2**20))
    for _ in range(5):
        inner = zipped(inner=inner)
    return inner


def page_loop() -> bytes:
    """A page tree whose only branch is itself."""
    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    tree: Any = writer._root_object["/Pages"]
    loop = DictionaryObject(
        {NameObject("/Type"): NameObject("/Pages"), NameObject("/Count"): NumberObject(1)}
    )
    reference = writer._add_object(loop)
    loop[NameObject("/Kids")] = ArrayObject([reference])
    tree[NameObject("/Kids")] = ArrayObject([reference])
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def encrypted_docx() -> bytes:
    data = bytearray(docx())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    return bytes(data)


def empty_docx() -> bytes:
    out = io.BytesIO()
    Document().save(out)
    return out.getvalue()


def junk() -> bytes:
    return random.Random(0).randbytes(100_000)


def deep_html() -> bytes:
    return b"<div>" * 100_000 + b"words" + b"</div>" * 100_000


# name, bytes, what the reason says
FILES: list[tuple[str, Callable[[], bytes], str]] = [
    ("bomb.docx", bomb, "unpacks to"),
    ("liar.docx", liar, "cannot be read"),
    ("crowd.docx", crowd, "entries"),
    ("nested.docx", nested, "is named like a Word document (DOCX) but is a ZIP archive"),
    ("entity.docx", lambda: with_part(docx(), "word/document.xml", EXTERNAL), "document type"),
    ("locked.docx", encrypted_docx, "password"),
    ("cut.docx", lambda: docx()[:5_000], "is a broken ZIP archive"),
    ("empty.docx", empty_docx, "has no text"),
    ("slides.docx", pptx, "is named like a Word document (DOCX) but is a PowerPoint"),
    ("cut.pdf", lambda: pdf("words")[:300], "cannot be read"),
    ("locked.pdf", lambda: pdf("words", password="secret"), "password"),
    ("loop.pdf", page_loop, "cannot be read"),
    ("oops.pdf", lambda: b"%PDF-1.7 oops", "cannot be read"),
    ("no.pdf", lambda: b"no pdf at all", "is named like a PDF but is something else"),
    ("scan.pdf", lambda: pdf(""), "has no text"),
    ("report.md", lambda: pdf("words"), "is named like Markdown but is a PDF"),
    ("program.txt", lambda: b"\x7fELF" + bytes(100), "is named like text but is a Linux program"),
    ("picture.md", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "but is a PNG image"),
    ("picture.png", lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "no supported type"),
    ("junk.txt", junk, "it is binary"),
    ("junk", junk, "it is binary"),
    ("short.txt", lambda: b"\x00\x01\x02", "it is binary"),
    ("empty.md", lambda: b"", "is empty"),
    ("blank.txt", lambda: b" \n\n ", "has no text"),
    ("tags.html", lambda: b"<p></p><script>alert(1)</script>", "has no text"),
    ("deep.html", deep_html, "nested"),
    ("deep.md", lambda: b">" * 100_000 + b" words", "has no text"),
    ("wide.csv", lambda: b"," * 999_999 + b"\nx", "1000000 columns"),
    ("cell.csv", lambda: b'a,b\n"' + b"x" * 2**21, "field larger"),
    ("a.exe", lambda: b"MZ\x00", "no supported type"),
]
