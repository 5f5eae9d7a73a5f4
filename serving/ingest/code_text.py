"""Source files to text: cut at blank lines before column 0, headed by their definition."""

from __future__ import annotations

import re
from collections.abc import Iterator

from serving.ingest.decoding import windows
from serving.retrieval.chunker import Kind, Parsed, ParsedBuilder

_DEFINITION = re.compile(
    r"^(?:(?:export|default|public|private|protected|internal|static|abstract|final|async|unsafe|"
    r"inline|const|pub(?:\([^)]*\))?|create(?:\s+or\s+replace)?)\s+)*"
    r"(?:def|class|func|function|fn|struct|enum|trait|impl|interface|type|module|namespace|record|"
    r"message|table|view|procedure|trigger)\b\*?\s+(?:\([^)]*\)\s*)?([\w.\"]+(?:::\w+)*)",
    re.IGNORECASE | re.MULTILINE,
)
_TOP_LEVEL = re.compile(r"\n\s*\n(?=[^\s})\]])")


def parse_code(data: bytes, filename: str) -> Iterator[Parsed]:
    """Titled with the file's whole name; below it, what is defined at the top level."""
    for window in windows(data):
        builder, names = ParsedBuilder(), False
        for part in _TOP_LEVEL.split(window):
            defined = _DEFINITION.search(part)
            if defined or names:
                builder.add(Kind.HEADING, _name(defined), level=2)
            names = names or defined is not None
            builder.add(Kind.CODE, part.strip("\n"))
        yield builder.build(filename)


def _name(defined: re.Match[str] | None) -> str:
    """What stands after a definition is not part of it."""
    return defined[1].strip('".') if defined else "…"
