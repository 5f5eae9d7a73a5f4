"""Parsers: the text a reader sees, with its structure; failures name the file."""

from __future__ import annotations

import io

import pytest
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from serving.errors import InvalidRequest
from serving.ingest.parsers import parse
from serving.retrieval.chunker import Kind, Parsed


def kinds_and_texts(parsed: Parsed) -> list[tuple[Kind, str]]:
    return [(block.kind, parsed.text[block.start : block.end]) for block in parsed.blocks]


MARKDOWN = b"""\
---
title: "Handbook"
---
# Welcome *all*

See [the page](https://example.org/a) and `code`,
on two lines. <b>Bold</b> ![a picture](x.png)

- one
- two
  1. deep

| Plan | Price |
|---|---|
| Gold | 30 |

```
x = 1
```

> A quote.
"""


def test_markdown_keeps_structure_and_addresses() -> None:
    parsed = parse("a.md", MARKDOWN)
    assert parsed.title == "Handbook"
    assert kinds_and_texts(parsed) == [
        (Kind.HEADING, "Welcome all"),
        (
            Kind.PARAGRAPH,
            "See the page (https://example.org/a) and code,\non two lines. Bold a picture",
        ),
        (Kind.LIST, "- one\n- two\n  1. deep"),
        (Kind.TABLE, "Plan | Price\nGold | 30"),
        (Kind.CODE, "x = 1"),
        (Kind.PARAGRAPH, "A quote."),
    ]


HTML = b"""<html><head><title>Shop &amp; more</title><style>p {}</style></head><body>
<nav>Menu</nav><script>alert(1)</script><!-- hidden -->
<main><h1>Returns</h1><div>Within <b>30</b> days.<p>Keep the<br>receipt.</p>And call.</div>
<ul><li>one<ul><li>deep</li></ul></li><li>two</li></ul>
<table><tr><th>Plan</th><th>Price</th></tr><tr><td>Gold</td><td>30</td></tr></table>
<pre>x = 1</pre></main><footer>Imprint</footer></body></html>"""


def test_html_keeps_structure_without_furniture() -> None:
    parsed = parse("a.html", HTML)
    assert parsed.title == "Returns"
    assert kinds_and_texts(parsed) == [
        (Kind.HEADING, "Returns"),
        (Kind.PARAGRAPH, "Within 30 days."),
        (Kind.PARAGRAPH, "Keep the receipt."),
        (Kind.PARAGRAPH, "And call."),
        (Kind.LIST, "- one\n- deep\n- two"),
        (Kind.TABLE, "Plan | Price\nGold | 30"),
        (Kind.CODE, "x = 1"),
    ]


def test_html_without_a_heading_is_named_by_its_title() -> None:
    assert parse("a.html", b"<title>Shop</title>Hello <p>there").title == "Shop"


def test_text_is_paragraphs_named_by_the_file() -> None:
    parsed = parse("opening hours.txt", "Zürich: 9\r\n\r\nBern: 10\n".encode("utf-8-sig"))
    assert parsed.title == "opening hours"
    assert kinds_and_texts(parsed) == [(Kind.PARAGRAPH, "Zürich: 9"), (Kind.PARAGRAPH, "Bern: 10")]


def test_utf_16_is_read_by_its_mark() -> None:
    assert parse("a.txt", "Zürich".encode("utf-16")).text == "Zürich"


def pdf(*pages: str, password: str | None = None) -> bytes:
    writer = PdfWriter()
    for text in pages:
        page = writer.add_blank_page(200, 200)
        font = DictionaryObject(
            {
                NameObject("/Type"): NameObject("/Font"),
                NameObject("/Subtype"): NameObject("/Type1"),
                NameObject("/BaseFont"): NameObject("/Helvetica"),
            }
        )
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        content = StreamObject()
        content.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
        page[NameObject("/Contents")] = writer._add_object(content)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_a_pdf_has_a_section_per_page() -> None:
    parsed = parse("manual.pdf", pdf("First words", "Second words"))
    assert parsed.title == "manual"
    assert kinds_and_texts(parsed) == [
        (Kind.HEADING, "Page 1"),
        (Kind.PARAGRAPH, "First words"),
        (Kind.HEADING, "Page 2"),
        (Kind.PARAGRAPH, "Second words"),
    ]


@pytest.mark.parametrize(
    ("filename", "data", "reason"),
    [
        ("a.pdf", pdf("words")[:300], "cannot be read"),
        ("a.pdf", b"no pdf at all", "cannot be read"),
        ("a.pdf", pdf("words", password="secret"), "password"),
        ("a.pdf", pdf(""), "no text"),
        ("a.pdf", b"", "cannot be read"),
        ("a.txt", b" \n ", "no text"),
        ("a.txt", b"\x00\x01\x02", "binary"),
        ("a.md", b"\xff\xfa", "cannot be read"),
        ("a.html", b"<p></p>", "no text"),
        ("a.docx", b"PK", "no supported type"),
        ("README", b"text", "no supported type"),
    ],
)
def test_what_cannot_be_read_is_named(filename: str, data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        parse(filename, data)
    assert f"'{filename}'" in caught.value.message
