"""Stored responses: kept whole, continued in order, each tenant's own, gone after a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.expiry import sweep
from serving.store.models import ResponseRow
from serving.store.objects import FolderObjects
from serving.store.responses import DAY_S, MAX_CHARS, Responses, StoredResponse
from serving.types import TenantId
from tests.store.conftest import ACME, OTHER, Clock


def id_of(number: int) -> str:
    return f"resp_{number:032x}"


def turn(number: int, previous: int | None = None, tenant: TenantId = ACME) -> StoredResponse:
    """Asks `q1`, answers `a1`, with a text that some databases do not like."""
    return StoredResponse(
        id=id_of(number),
        tenant=tenant,
        previous=None if previous is None else id_of(previous),
        input=[{"id": f"q{number}", "type": "message", "text": "\x00 and ü"}],
        body={"output": [{"id": f"a{number}", "type": "message"}]},
    )


def names(items: list[Any]) -> list[str]:
    return [item["id"] for item in items]


def test_what_was_saved_comes_back_equal(db: Database) -> None:
    responses = Responses(db)
    responses.save(turn(1))
    assert responses.get(ACME, id_of(1)) == turn(1)


def test_a_conversation_is_read_oldest_first(db: Database) -> None:
    responses = Responses(db)
    for number in range(1, 40):
        responses.save(turn(number, number - 1 or None))
    expected = [name for n in range(1, 40) for name in (f"q{n}", f"a{n}")]
    assert names(responses.conversation(ACME, id_of(39))) == expected
    assert names(responses.conversation(ACME, id_of(2))) == expected[:4]


def test_another_tenants_response_is_like_none(db: Database) -> None:
    responses = Responses(db)
    responses.save(turn(1))
    responses.save(turn(2, previous=1, tenant=OTHER))
    for call in (responses.get, responses.delete, responses.conversation):
        with pytest.raises(NotFound) as theirs:
            call(OTHER, id_of(1))
        with pytest.raises(NotFound) as unknown:
            call(OTHER, id_of(9))
        assert theirs.value.message == unknown.value.message.replace(id_of(9), id_of(1))
        assert theirs.value.param == unknown.value.param
    assert names(responses.conversation(OTHER, id_of(2))) == ["q2", "a2"]
    assert responses.items(OTHER, {"q1": id_of(1)}) == {}
    assert responses.get(ACME, id_of(1)) == turn(1)


def test_what_is_no_id_names_no_response(db: Database) -> None:
    for id in ("", "resp_1", "resp_\x00", "req-" + "0" * 32, "x" * 10_000):
        with pytest.raises(NotFound):
            Responses(db).get(ACME, id)


def test_a_deleted_turn_leaves_the_conversation_and_the_rest_stays(db: Database) -> None:
    responses = Responses(db)
    for number in (1, 2, 3):
        responses.save(turn(number, number - 1 or None))
    responses.delete(ACME, id_of(2))
    assert names(responses.conversation(ACME, id_of(3))) == ["q1", "a1", "q3", "a3"]
    with pytest.raises(NotFound):
        responses.delete(ACME, id_of(2))


def test_items_are_found_by_the_response_they_belong_to(db: Database) -> None:
    responses = Responses(db)
    responses.save(turn(1))
    responses.save(turn(2))
    found = responses.items(ACME, {"q1": id_of(1), "a2": id_of(2), "a1": id_of(2)})
    assert set(found) == {"q1", "a2", "a1"}
    assert responses.items(ACME, {"q1": id_of(2)}) == {}


def test_a_response_is_gone_when_it_is_too_old(db: Database, clock: Clock, tmp_path: Path) -> None:
    responses = Responses(db, clock)
    responses.save(turn(1))
    clock.now += 30 * DAY_S
    assert responses.get(ACME, id_of(1)) == turn(1)
    clock.now += 1
    with pytest.raises(NotFound):
        responses.get(ACME, id_of(1))
    responses.save(turn(2, previous=1))
    assert names(responses.conversation(ACME, id_of(2))) == ["q2", "a2"]
    assert sweep(db, FolderObjects(tmp_path), clock) == 1
    assert sweep(db, FolderObjects(tmp_path), clock) == 0
    with db.snapshot() as session:
        assert session.scalars(select(ResponseRow.id)).all() == [id_of(2)]


def test_a_conversation_without_end_is_refused(db: Database) -> None:
    responses = Responses(db)
    long = {"id": "q", "type": "message", "text": "x" * (MAX_CHARS // 2)}
    for number in (1, 2, 3):
        before = None if number == 1 else id_of(number - 1)
        responses.save(StoredResponse(id_of(number), ACME, before, [long], {"output": []}))
    with pytest.raises(InvalidRequest, match="over the limit"):
        responses.conversation(ACME, id_of(3))
    with pytest.raises(InvalidRequest, match="over the limit"):
        responses.items(ACME, {"q": id_of(1), "a": id_of(2), "b": id_of(3)})
    assert responses.items(ACME, {"q": id_of(1)}) == {"q": long}


def test_a_conversation_has_so_many_turns(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.store.responses.MAX_TURNS", 3)
    responses = Responses(db)
    for number in range(1, 5):
        responses.save(turn(number, number - 1 or None))
    assert len(responses.conversation(ACME, id_of(3))) == 6
    with pytest.raises(InvalidRequest, match="over the limit"):
        responses.conversation(ACME, id_of(4))


def test_references_to_countless_responses_are_refused(db: Database) -> None:
    with pytest.raises(InvalidRequest, match="over the limit") as refused:
        Responses(db).items(ACME, {f"q{n}": id_of(n) for n in range(70_000)})
    assert refused.value.param == "input"
