"""Votes in SQL: one for an answer, each tenant's own, whoever writes at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import InvalidRequest, NotFound
from serving.store.database import Database
from serving.store.feedback import DOWN, UP, Feedback, Vote
from serving.store.pages import Window
from tests.store.conftest import ACME, OTHER, Clock


def id_of(number: int, form: str = "chatcmpl-") -> str:
    return f"{form}{number:032x}"


def test_a_vote_is_kept_whole(db: Database, clock: Clock) -> None:
    feedback = Feedback(db, clock)
    messages = [{"role": "user", "content": "Why?"}]
    given = Vote(ACME, id_of(1), DOWN, "bad", "Because.", messages, "No.", "desk", "a@1", "hybrid")
    kept = feedback.put(given)
    assert feedback.get(ACME, id_of(1)) == kept
    assert kept.created_at == int(clock.now)


def test_the_last_vote_counts_by_every_id_of_the_answer(db: Database) -> None:
    feedback = Feedback(db)
    feedback.put(Vote(ACME, id_of(1), UP))
    feedback.put(Vote(ACME, id_of(1, "req-"), DOWN))
    assert feedback.get(ACME, id_of(1, "cmpl-")).rating == DOWN
    assert len(feedback.list(ACME).items) == 1


def test_many_votes_at_once_leave_one(db: Database) -> None:
    feedback = Feedback(db)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: feedback.put(Vote(ACME, id_of(1), UP, str(n))), range(24)))
    assert len(feedback.list(ACME).items) == 1


def test_tenants_keep_to_themselves(db: Database) -> None:
    feedback = Feedback(db)
    feedback.put(Vote(ACME, id_of(1), UP))
    with pytest.raises(NotFound):
        feedback.get(OTHER, id_of(1))
    with pytest.raises(NotFound):
        feedback.delete(OTHER, id_of(1))
    feedback.put(Vote(OTHER, id_of(1), DOWN))
    assert feedback.get(ACME, id_of(1)).rating == UP


def test_lists_are_filtered_and_paged(db: Database, clock: Clock) -> None:
    feedback = Feedback(db, clock)
    for number in range(5):
        clock.now += 1
        feedback.put(Vote(ACME, id_of(number), (UP, DOWN)[number % 2], adapter="a@1"))
    downs = feedback.list(ACME, rating=DOWN)
    assert [vote.response for vote in downs.items] == [id_of(3), id_of(1)]
    first = feedback.list(ACME, Window(2, order="asc"), adapter="a@1")
    assert [vote.response for vote in first.items] == [id_of(0), id_of(1)] and first.has_more


@pytest.mark.parametrize("id", ["", "chatcmpl-", "chatcmpl-xyz", "msg_" + "0" * 32])
def test_an_id_of_something_else_is_refused(db: Database, id: str) -> None:
    with pytest.raises(InvalidRequest):
        Feedback(db).put(Vote(ACME, id, UP))
