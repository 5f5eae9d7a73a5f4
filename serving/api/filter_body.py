"""Filters in a body: one check for `/search`, the `file_search` tool and the field `engram`."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Annotated, Any

from pydantic import AfterValidator

Scalar = str | bool | int | float
COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")


def _filters(tree: dict[str, Any]) -> dict[str, Any]:
    """Checks what a search would otherwise take for something else."""
    fields = tree.keys()
    if tree.get("type") in ("and", "or") and "filters" in tree:
        _only(fields, "type", "filters")
        if not isinstance(tree["filters"], list):
            raise ValueError("'filters' of a compound filter is a list")
        for part in tree["filters"]:
            if not isinstance(part, dict):
                raise ValueError("a filter is an object")
            _filters(part)
    elif fields & {"key", "value"} or tree.get("type") in COMPARISONS:
        _only(fields, "type", "key", "value")
        _comparison(tree)
    elif not all(isinstance(value, Scalar) for value in tree.values()):
        raise ValueError("an attribute equals a string, a number or a boolean")
    return tree


def _only(fields: Set[str], *wanted: str) -> None:
    if odd := fields ^ set(wanted):
        raise ValueError(f"a filter of this type has {wanted}; '{min(odd)[:64]}' is amiss")


def _comparison(tree: Mapping[str, Any]) -> None:
    kind, value = tree["type"], tree["value"]
    if kind not in COMPARISONS:
        raise ValueError(f"'type' is one of {COMPARISONS}, 'and' or 'or'")
    if not isinstance(tree["key"], str):
        raise ValueError("'key' is a string")
    values = value if kind in ("in", "nin") else [value]
    if not isinstance(values, list) or not all(isinstance(v, Scalar) for v in values):
        what = "a list of strings or numbers" if kind in ("in", "nin") else "a string or number"
        raise ValueError(f"'value' of '{kind}' is {what}")


Filters = Annotated[dict[str, Any], AfterValidator(_filters)]
