"""PowerPoint to text: a slide is a section with its title, text, tables and speaker notes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from pptx import Presentation

from serving.ingest.archive import check_archive
from serving.ingest.decoding import printable
from serving.ingest.tables import add_table
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder


def parse_pptx(data: bytes, title: str) -> Parsed:
    check_archive(data)
    presentation = Presentation(io.BytesIO(data))
    builder = ParsedBuilder()
    for number, slide in enumerate(presentation.slides, 1):
        heading = slide.shapes.title
        name = _line(heading.text_frame.text) if heading is not None else ""
        builder.add(Kind.HEADING, f"Slide {number}: {name}" if name else f"Slide {number}", level=2)
        others = (shape for shape in slide.shapes if heading is None or shape != heading)
        _add_shapes(builder, others)
        if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame):
            said = printable(notes.text).strip()
            builder.add(Kind.PARAGRAPH, f"Notes: {said}" if said else "")
    return builder.build(printable(presentation.core_properties.title or ""), title)


def _add_shapes(builder: ParsedBuilder, shapes: Iterable[Any]) -> None:
    """Shapes are untyped in python-pptx: what one has is asked of it."""
    for shape in shapes:
        if hasattr(shape, "shapes"):  # a group
            _add_shapes(builder, shape.shapes)
        elif shape.has_text_frame:
            _add_text(builder, shape.text_frame.paragraphs)
        elif getattr(shape, "has_table", False):
            rows = [[printable(cell.text) for cell in row.cells] for row in shape.table.rows]
            add_table(builder, rows)


def _add_text(builder: ParsedBuilder, paragraphs: Iterable[Any]) -> None:
    """One paragraph is a paragraph; several are the bullets that slides consist of."""
    lines = [(p.level, _line(p.text)) for p in paragraphs if _line(p.text)]
    if len(lines) == 1:
        builder.add(Kind.PARAGRAPH, lines[0][1])
    else:
        builder.add(Kind.LIST, "\n".join(f"{'  ' * level}- {line}" for level, line in lines))


def _line(text: str) -> str:
    return " ".join(printable(text).split())
