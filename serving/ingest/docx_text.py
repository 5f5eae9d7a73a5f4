"""Word documents to text with their headings, lists and tables, in the order of the document."""

from __future__ import annotations

import io
import re

from docx import Document
from docx.table import Table
from docx.text.paragraph import Paragraph

from serving.ingest.archive import check_archive
from serving.ingest.decoding import printable
from serving.ingest.tables import add_table
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

_HEADING = re.compile(r"heading ([1-6])", re.IGNORECASE)


def parse_docx(data: bytes, title: str) -> Parsed:
    check_archive(data)
    document = Document(io.BytesIO(data))
    reading = _Reading(ParsedBuilder(), [])
    for part in document.iter_inner_content():
        reading.add(part)
    reading.end_list()
    stated = reading.title or document.core_properties.title
    return reading.builder.build(printable(stated or ""), title)


class _Reading:
    """Neighbouring list items become one list."""

    def __init__(self, builder: ParsedBuilder, items: list[str]) -> None:
        self.builder = builder
        self.title = ""
        self._items = items

    def add(self, part: Paragraph | Table) -> None:
        if isinstance(part, Paragraph):
            self._paragraph(part)
        else:
            self.end_list()
            add_table(self.builder, _rows(part))

    def _paragraph(self, paragraph: Paragraph) -> None:
        text, style = printable(paragraph.text).strip(), _style(paragraph)
        level = _list_level(paragraph, style)
        if level is not None:
            if text:
                self._items.append(f"{'  ' * level}- {text}")
            return
        self.end_list()
        heading = _HEADING.match(style)
        if heading:
            self.builder.add(Kind.HEADING, " ".join(text.split()), level=int(heading[1]))
        elif style == "Title" and not self.title:
            self.title = text
            self.builder.add(Kind.HEADING, " ".join(text.split()), level=1)
        else:
            self.builder.add(Kind.PARAGRAPH, text)

    def end_list(self) -> None:
        self.builder.add(Kind.LIST, "\n".join(self._items))
        self._items.clear()


def _style(paragraph: Paragraph) -> str:
    return (paragraph.style.name if paragraph.style is not None else None) or ""


def _list_level(paragraph: Paragraph, style: str) -> int | None:
    """How deep in a list, from its numbering or the name of its style; None outside of lists."""
    numbering = paragraph._p.xpath("./w:pPr/w:numPr")  # noqa: SLF001 - no public word for it
    if numbering and numbering[0].xpath("./w:numId/@w:val") != ["0"]:
        return int(next(iter(numbering[0].xpath("./w:ilvl/@w:val")), 0))
    if style.startswith("List") and not style.startswith("List Paragraph"):
        number = re.search(r"\d$", style)
        return int(number[0]) - 1 if number else 0
    return None


def _rows(table: Table) -> list[list[str]]:
    """A cell that spans several columns is said once."""
    rows = []
    for row in table.rows:
        cells, last = [], None
        for cell in row.cells:
            if cell._tc is not last:  # noqa: SLF001 - how python-docx tells spanning cells
                cells.append(printable(cell.text))
            last = cell._tc  # noqa: SLF001
        rows.append(cells)
    return rows
