"""The same tiny company as retrieval's tests."""

from tests.retrieval.conftest import world

__all__ = ["world"]
