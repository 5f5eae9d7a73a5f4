"""Tables as text: a small one as it stands, a large one with rows that explain themselves.

A chunk may hold any few rows of a large table, so each of its rows names its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serving.retrieval.chunker import Kind, ParsedBuilder, count_words

GRID_WORDS = 64  # a table up to this size stays in one piece
ROW_WORDS = 48  # a longer row becomes several, each with the first cell

Row = Sequence[str]


def add_table(builder: ParsedBuilder, rows: Sequence[Row]) -> None:
    """Adds a table whose first row is its header."""
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    rows = [row for row in rows if any(row)]
    grid = "\n".join(" | ".join(row) for row in rows)
    if len(rows) < 3 or count_words(grid) <= GRID_WORDS:
        builder.add(Kind.TABLE, grid)
        return
    header, *body = rows
    for row in body:
        for line in explained(header, row):
            builder.add(Kind.TABLE, line)


def explained(header: Row, row: Row) -> Iterator[str]:
    """`column: value | column: value`, once, or in parts that all begin with the first cell."""
    cells = [_cell(header, n, value) for n, value in enumerate(row) if value]
    if not cells:
        return
    first, part, words = cells[0], [cells[0]], count_words(cells[0])
    for cell in cells[1:]:
        size = count_words(cell)
        if words + size > ROW_WORDS and len(part) > 1:
            yield " | ".join(part)
            part, words = [first], count_words(first)
        part.append(cell)
        words += size
    yield " | ".join(part)


def _cell(header: Row, n: int, value: str) -> str:
    name = header[n] if n < len(header) else ""
    return f"{name}: {value}" if name else value
