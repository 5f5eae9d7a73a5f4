"""Parsers: the text a reader sees, with its structure; failures name the file."""

from __future__ import annotations

import io

import pytest
from docx import Document
from pptx import Presentation
from pptx.util import Inches
from pypdf import PdfWriter
from pypdf.generic import DictionaryObject, NameObject, StreamObject

from serving.ingest.parsers import parse
from serving.retrieval.chunker import Kind, Parsed


def whole(filename: str, data: bytes) -> Parsed:
    [part] = parse(filename, data)
    return part


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
    parsed = whole("a.md", MARKDOWN)
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
    parsed = whole("a.html", HTML)
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
    assert whole("a.html", b"<title>Shop</title>Hello <p>there").title == "Shop"


def test_text_is_paragraphs_named_by_the_file() -> None:
    parsed = whole("opening hours.txt", "Zürich: 9\r\n\r\nBern: 10\n".encode("utf-8-sig"))
    assert parsed.title == "opening hours"
    assert kinds_and_texts(parsed) == [(Kind.PARAGRAPH, "Zürich: 9"), (Kind.PARAGRAPH, "Bern: 10")]


def test_utf_16_is_read_by_its_mark() -> None:
    assert whole("a.txt", "Zürich".encode("utf-16")).text == "Zürich"


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
    first, second = parse("manual.pdf", pdf("First words", "Second words"))
    assert first.title == second.title == "manual"
    assert kinds_and_texts(first) == [(Kind.HEADING, "Page 1"), (Kind.PARAGRAPH, "First words")]
    assert kinds_and_texts(second) == [(Kind.HEADING, "Page 2"), (Kind.PARAGRAPH, "Second words")]


DOCX_TABLE = (("Plan", "Price"), ("Gold", "30"))


def docx() -> bytes:
    document = Document()
    document.add_heading("Travel", 0)
    document.add_paragraph("Who travels, books early.")
    document.add_heading("Trains", 1)
    document.add_paragraph("Bring:", style="Normal")
    document.add_paragraph("a ticket", style="List Bullet")
    document.add_paragraph("a coat", style="List Bullet 2")
    document.add_heading("Prices", 2)
    table = document.add_table(rows=2, cols=2)
    for row, texts in zip(table.rows, DOCX_TABLE, strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    parsed = whole("travel.docx", docx())
    assert parsed.title == "Travel"
    assert kinds_and_texts(parsed) == [
        (Kind.HEADING, "Travel"),
        (Kind.PARAGRAPH, "Who travels, books early."),
        (Kind.HEADING, "Trains"),
        (Kind.PARAGRAPH, "Bring:"),
        (Kind.LIST, "- a ticket\n  - a coat"),
        (Kind.HEADING, "Prices"),
        (Kind.TABLE, "Plan | Price\nGold | 30"),
    ]
    assert [block.level for block in parsed.blocks if block.kind is Kind.HEADING] == [1, 1, 2]


def test_a_cell_over_two_columns_is_said_once() -> None:
    document = Document()
    table = document.add_table(rows=2, cols=2)
    table.rows[0].cells[0].merge(table.rows[0].cells[1]).text = "Prices"
    table.rows[1].cells[0].text, table.rows[1].cells[1].text = "Gold", "30"
    out = io.BytesIO()
    document.save(out)
    assert whole("a.docx", out.getvalue()).text == "Prices\nGold | 30"


def pptx() -> bytes:
    presentation = Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Goals"
    body = slide.placeholders[1].text_frame
    body.text = "Faster"
    second = body.add_paragraph()
    second.text, second.level = "by half", 1
    inches = Inches(1)
    table = slide.shapes.add_table(2, 2, inches, inches, inches, inches).table
    for row, texts in zip(table.rows, DOCX_TABLE, strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def test_a_slide_is_a_section_with_its_table_and_notes() -> None:
    parsed = whole("plan.pptx", pptx())
    assert kinds_and_texts(parsed) == [
        (Kind.HEADING, "Slide 1: Goals"),
        (Kind.LIST, "- Faster\n  - by half"),
        (Kind.TABLE, "Plan | Price\nGold | 30"),
        (Kind.PARAGRAPH, "Notes: Say it slowly."),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_every_row_of_a_table_names_its_columns(mark: str) -> None:
    rows = [("Name", "Days", "Team"), ("Ada", "30", ""), ("Bo", "28", '"a\nb"')]
    text = "\n".join(mark.join(row) for row in rows)
    assert whole("leave.csv", text.encode()).text.split("\n\n") == [
        "Name: Ada | Days: 30",
        "Name: Bo | Days: 28 | Team: a b",
    ]


def test_a_table_without_a_header_counts_its_columns() -> None:
    assert whole("a.csv", b"1,2\n3,4\n").text.split("\n\n") == [
        "column 1: 1 | column 2: 2",
        "column 1: 3 | column 2: 4",
    ]


def test_a_long_row_repeats_its_first_cell() -> None:
    header = ",".join(f"c{n}" for n in range(60))
    row = ",".join(f"v{n}" for n in range(60))
    lines = whole("a.csv", f"{header}\n{row}\n".encode()).text.split("\n\n")
    assert len(lines) == 3
    assert all(line.startswith("c0: v0 | ") for line in lines)
    assert lines[-1].endswith("c59: v59")


def test_a_large_table_of_a_document_has_rows_that_explain_themselves() -> None:
    rows = "".join(f"| item{n} | {n} |\n" for n in range(40))
    parsed = whole("a.md", f"| Name | Price |\n|---|---|\n{rows}".encode())
    assert len(parsed.blocks) == 40
    assert kinds_and_texts(parsed)[7] == (Kind.TABLE, "Name: item7 | Price: 7")


PYTHON = b"""import os

LIMIT = 3


def first(a):
    x = a

    return x


class Second:
    def method(self): ...
"""


def test_code_is_cut_at_its_definitions() -> None:
    parsed = whole("tools.py", PYTHON)
    assert parsed.title == "tools.py"
    assert kinds_and_texts(parsed) == [
        (Kind.CODE, "import os"),
        (Kind.CODE, "LIMIT = 3"),
        (Kind.HEADING, "first"),
        (Kind.CODE, "def first(a):\n    x = a\n\n    return x"),
        (Kind.HEADING, "Second"),
        (Kind.CODE, "class Second:\n    def method(self): ..."),
    ]


@pytest.mark.parametrize(
    ("filename", "code", "name"),
    [
        ("a.go", "func (s *Server) Start(port int) error {\n}", "Start"),
        ("a.rs", "pub(crate) async fn load() {}", "load"),
        ("a.ts", "export default class Shop {}", "Shop"),
        ("a.java", "public final class Till {}", "Till"),
        ("a.sql", 'CREATE OR REPLACE VIEW "sales" AS SELECT 1;', "sales"),
        ("a.sh", "function deploy() {\n}", "deploy"),
        ("a.rb", "module Pumps\nend", "Pumps"),
    ],
)
def test_definitions_of_many_languages_name_their_section(
    filename: str, code: str, name: str
) -> None:
    assert kinds_and_texts(whole(filename, code.encode()))[0] == (Kind.HEADING, name)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
def test_text_is_read_in_any_common_encoding(encoding: str) -> None:
    assert whole("a.txt", "Zürich is open".encode(encoding)).text == "Zürich is open"


def test_a_name_without_an_ending_is_read_as_what_it_holds() -> None:
    assert whole("README", b"# Not a heading").blocks[0].kind is Kind.PARAGRAPH
    assert next(parse("scan", pdf("Words"))).text == "Page 1\n\nWords"


def test_a_large_text_comes_in_parts_that_lose_nothing() -> None:
    paragraphs = [f"Paragraph {n} says something." for n in range(20_000)]
    parts = list(parse("big.txt", "\n\n".join(paragraphs).encode()))
    assert len(parts) > 1
    assert "\n\n".join(part.text for part in parts).split("\n\n") == paragraphs
