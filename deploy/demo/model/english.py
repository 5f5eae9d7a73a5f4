"""Plain English sentences from the docstrings of the standard library and of NumPy.

Both licences (PSF, BSD) allow it. They give ordinary words a place in the vocabulary and in the
passages' filler sentences.
"""

from __future__ import annotations

import ast
import functools
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_SENTENCE = re.compile(r"[A-Z][a-z]+(?:,? [a-z]+(?:'[a-z]+)?){4,22}\.(?=\s|$)")
_LIMIT = 12000
_CACHE = Path(__file__).with_name("runs") / "english.txt"


def _docstrings(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def _sources() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    yield from sorted(Path(paths["stdlib"]).glob("*.py"))
    for package in ("email", "http", "json", "logging", "asyncio", "unittest", "urllib"):
        yield from sorted(Path(paths["stdlib"], package).rglob("*.py"))
    yield from sorted(Path(paths["purelib"], "numpy").rglob("*.py"))


@functools.cache
def sentences() -> tuple[str, ...]:
    """Distinct plain sentences in a fixed order, kept in a file since reading them takes long."""
    if not _CACHE.exists():
        _CACHE.parent.mkdir(exist_ok=True)
        _CACHE.write_text("\n".join(_collected()))
    return tuple(_CACHE.read_text().splitlines())


def _collected() -> tuple[str, ...]:
    found: dict[str, None] = {}
    for path in _sources():
        for text in _docstrings(path):
            for match in _SENTENCE.findall(" ".join(text.split())):
                found[match] = None
        if len(found) >= _LIMIT:
            break
    return tuple(found)
