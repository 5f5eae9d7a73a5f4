"""The error tree: every leaf has its own code and status, and HTTP shows both."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from serving import errors
from serving.api.errors import as_serving_error, error_response
from serving.errors import CapacityError, RateLimited, RetrieverUnavailable, ServingError


def leaves(kind: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from leaves(child)


@pytest.mark.parametrize("kind", list(leaves()))
def test_every_error_answers_in_openais_shape(kind: type[ServingError]) -> None:
    response = error_response(kind("what to do"), "req-1")
    error = json.loads(bytes(response.body))["error"]
    assert response.status_code == kind.status
    assert error == {"message": "what to do", "type": kind.type, "param": None, "code": kind.code}
    assert response.headers["engram-request-id"] == "req-1"


BRIEF = [RateLimited, RetrieverUnavailable, *CapacityError.__subclasses__()]


@pytest.mark.parametrize("kind", BRIEF)
def test_whoever_may_come_back_is_told_when(kind: type[ServingError]) -> None:
    assert error_response(kind("full")).headers["retry-after"] == "1"


def test_the_drawing_at_the_top_shows_the_whole_tree() -> None:
    drawn = errors.__doc__ or ""
    for kind in leaves():
        assert f"─ {kind.__name__} " in drawn
        if kind is not errors.RequestError and kind not in (CapacityError, errors.BackendError):
            assert str(kind.status) in drawn


def test_a_bug_tells_the_caller_nothing_of_the_inside() -> None:
    error = as_serving_error(KeyError("secret"))
    assert error.status == 500
    assert "secret" not in error.message
