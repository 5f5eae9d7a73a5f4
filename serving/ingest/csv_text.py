"""CSV and TSV to text: every row says its columns, so that any chunk explains itself."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice

from serving.ingest.decoding import open_text, printable
from serving.ingest.tables import explained
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

MAX_COLUMNS = 2_000
MAX_ROWS = 1_000_000
MAX_CELL_CHARS = 2**20
_PART_ROWS = 500
_SAMPLE_CHARS = 16 * 1024
_NUMBER = re.compile(r"[-+]?[\d.,:%€$£ /-]+")


def parse_csv(data: bytes, title: str) -> Iterator[Parsed]:
    csv.field_size_limit(MAX_CELL_CHARS)
    with open_text(data, newline="") as stream:
        sample = stream.read(_SAMPLE_CHARS)
    with open_text(data, newline="") as stream:
        rows = _checked(csv.reader(stream, delimiter=_delimiter(sample)))
        first = next(rows, None)
        if first is None:
            return
        header = first if _is_header(first) else [f"column {n}" for n, _ in enumerate(first, 1)]
        pending = iter(() if header is first else (first,))
        while part := [*islice(pending, 1), *islice(rows, _PART_ROWS)]:
            builder = ParsedBuilder()
            for row in part:
                for line in explained(header, row):
                    builder.add(Kind.TABLE, line)
            yield builder.build(fallback_title=title)


def _checked(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Cells on one line each, rows without any text left out."""
    for number, row in enumerate(rows):
        if len(row) > MAX_COLUMNS:
            raise ValueError(
                f"line {number + 1} has {len(row)} columns, at most {MAX_COLUMNS} are read"
            )
        if number >= MAX_ROWS:
            raise ValueError(f"it has more than {MAX_ROWS} rows; split it")
        cells = [" ".join(printable(cell).split()) for cell in row]
        if any(cells):
            yield cells


def _delimiter(sample: str) -> str:
    """The one that cuts the first lines into equally many cells."""
    lines = [line for line in sample.splitlines()[:20] if line.strip()][:-1] or [sample]

    def fit(mark: str) -> tuple[bool, int]:
        counts = [line.count(mark) for line in lines]
        return min(counts) == max(counts), min(counts)

    return max(",\t;|", key=fit)


def _is_header(row: list[str]) -> bool:
    names = [cell for cell in row if cell]
    return len(set(names)) == len(row) and not any(map(_NUMBER.fullmatch, names))
