"""File attribute filters, as in OpenAI's vector store search, plus plain `{key: value}`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from serving.errors import InvalidRequest

Keep = Callable[[Mapping[str, Any]], bool]

Test = Callable[[Any, Any], bool]


def _is(left: Any, right: Any) -> bool:
    """Equal and of one kind: a string, a number or a boolean. To Python, True is 1."""
    return isinstance(left, bool) is isinstance(right, bool) and bool(left == right)


def _ordered(order: Callable[[Any, Any], Any]) -> Test:
    """Between numbers or between strings; all else is neither greater nor less."""

    def holds(left: Any, right: Any) -> bool:
        if isinstance(left, bool) or isinstance(right, bool):
            return False
        try:
            return bool(order(left, right))
        except TypeError:
            return False

    return holds


_COMPARE: dict[str, Test] = {
    "eq": _is,
    "ne": lambda left, right: not _is(left, right),
    "gt": _ordered(operator.gt),
    "gte": _ordered(operator.ge),
    "lt": _ordered(operator.lt),
    "lte": _ordered(operator.le),
}
_MEMBER = {"in": True, "nin": False}
_JOIN: dict[str, Callable[[list[bool]], bool]] = {"and": all, "or": any}
MAX_DEPTH = 32
_KINDS = ", ".join((*_COMPARE, *_MEMBER, *_JOIN))


def compile_filter(tree: Mapping[str, Any], depth: int = 1) -> Keep:
    """A test for a file's attributes.

    Raises:
        InvalidRequest: the filter is malformed.
    """
    if depth > MAX_DEPTH:
        raise _wrong(f"it is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(tree, Mapping):
        raise _wrong("a filter is an object")
    kind = tree.get("type")
    if not isinstance(kind, str | None):
        raise _wrong("'type' is a string")
    if kind in _JOIN and "filters" in tree:
        return _joined(_JOIN[kind], tree["filters"], depth + 1)
    if "key" in tree and "value" in tree:
        return _compared(kind, tree["key"], tree["value"])
    return _equal(dict(tree))


def _joined(join: Callable[[list[bool]], bool], trees: Any, depth: int) -> Keep:
    if not isinstance(trees, list | tuple):
        raise _wrong("'filters' is a list")
    tests = [compile_filter(tree, depth) for tree in trees]
    return lambda attributes: join([test(attributes) for test in tests])


def _compared(kind: str | None, key: Any, value: Any) -> Keep:
    if not isinstance(key, str):
        raise _wrong("'key' is a string")
    if kind in _MEMBER:
        if not isinstance(value, list | tuple):
            raise _wrong(f"'{kind}' takes a list of values")
        return lambda attributes: _among(attributes.get(key), value) is _MEMBER[kind]
    if kind not in _COMPARE:
        raise _wrong(f"'{kind}' is none of {_KINDS}")
    compare = _COMPARE[kind]
    return lambda attributes: compare(attributes.get(key), value)


def _among(value: Any, values: Iterable[Any]) -> bool:
    return any(_is(value, one) for one in values)


def _equal(wanted: dict[str, Any]) -> Keep:
    return lambda attributes: all(_is(attributes.get(key), value) for key, value in wanted.items())


def _wrong(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The filter is malformed: {reason}.", param="filters")
