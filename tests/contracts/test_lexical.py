"""What holds for every `Lexical`: the ranking and the coverage of the exact one."""

from __future__ import annotations

import random

import pytest

from serving.retrieval.lexical import ExactLexical, Lexical
from serving.retrieval.tantivy_lexical import TantivyLexical, stems

TEXTS = {
    1: "Annual leave: every employee has 30 days of paid leave.",
    2: "The canteen opens at noon and closes at two.",
    3: "Leave can be carried over until March.",
    4: "Parking costs 20 euros a month for employees.",
}


@pytest.fixture(params=[lambda: ExactLexical(stems), TantivyLexical])
def lexical(request: pytest.FixtureRequest) -> Lexical:
    made: Lexical = request.param()
    return made


def test_ranks_and_covers_as_the_exact_one_does(lexical: Lexical) -> None:
    chance = random.Random(0)
    words = [f"word{n}" for n in range(40)]
    texts = {key: " ".join(chance.choices(words, k=chance.randint(3, 30))) for key in range(60)}
    exact = ExactLexical(stems)
    for one in (lexical, exact):
        one.add(texts)
    for _ in range(20):
        query = " ".join(chance.sample(words, 4)) + " unheard"
        found, expected = lexical.search(query, 10), exact.search(query, 10)
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)
        assert lexical.coverage(query, list(texts)) == pytest.approx(
            exact.coverage(query, list(texts)), abs=1e-5
        )


def test_covering_every_word_is_1_and_none_is_0(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    assert lexical.coverage("How many days of paid leave do employees have?", [1, 2, 99]) == (
        pytest.approx({1: 1.0})
    )
    assert 0.2 < lexical.coverage("days of the canteen", [1])[1] < 0.8


def test_stop_words_are_no_evidence(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    assert lexical.search("what is the at and of until?", 5) == {}
    assert lexical.coverage("who are you and how many", [1, 2]) == {}


def test_a_word_nobody_uses_lowers_the_coverage(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    known, more = (lexical.coverage(q, [4])[4] for q in ("parking", "parking helicopters"))
    assert known == pytest.approx(1.0)
    assert more < 0.6


@pytest.mark.parametrize(
    "query", ['leave AND NOT (days OR "', "text:leave^5 +days -paid", "leave* ~2 [a TO b]", "\x00"]
)
def test_nothing_in_a_query_is_syntax(lexical: Lexical, query: str) -> None:
    lexical.add(TEXTS)
    found = list(lexical.search(query, 5))
    assert found == ([] if query == "\x00" else found)
    assert "\x00" in query or {1, 3} <= set(found)


def test_a_filter_limits_the_search_itself(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    assert list(lexical.search("leave", 5, [3, 4])) == [3]
    assert lexical.search("leave", 5, []) == {}


def test_what_is_removed_is_not_found(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    lexical.remove([1, 99])
    assert list(lexical.search("leave", 5)) == [3]
    assert lexical.coverage("leave", [1]) == {}


def test_a_key_added_again_has_the_new_text(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    lexical.add({1: "About the weather."})
    assert list(lexical.search("weather", 5)) == [1]
    assert list(lexical.search("paid", 5)) == []


def test_an_empty_index_finds_nothing(lexical: Lexical) -> None:
    assert lexical.search("leave", 5) == {}
    assert lexical.coverage("leave", [1]) == {}


def test_a_very_long_query_is_answered(lexical: Lexical) -> None:
    lexical.add(TEXTS)
    assert lexical.search(" ".join(f"filler{n}" for n in range(3000)) + " canteen", 1) != {}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("near", [True, False], ids=["anywhere", "far from the query"])
def test_a_filter_of_any_size_gives_the_best_of_what_it_passes(
    lexical: Lexical, share: float, near: bool
) -> None:
    chance = random.Random(1)
    words = [f"word{n}" for n in range(30)]
    texts = {key: " ".join(chance.choices(words, k=chance.randint(5, 40))) for key in range(320)}
    exact = ExactLexical(stems)
    for one in (lexical, exact):
        one.add(texts)
    query = "word1 word2 word3"
    ranked = list(exact.search(query, 320))
    last = ranked[::-1] + sorted(texts.keys() - set(ranked))
    pool = chance.sample(range(320), 320) if near else last
    allowed = set(pool[: round(320 * share)])
    found, expected = (one.search(query, 5, allowed) for one in (lexical, exact))
    assert found.keys() <= allowed
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-4)
