"""The retriever over SQL: what it finds, for whom, and how soon it sees a change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.errors import InvalidRequest, NotFound, RetrievalFailed
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.hybrid import Ranked
from serving.retrieval.refinement import Refiner
from serving.retrieval.reranker import WordReranker
from serving.retrieval.searching import Asked
from serving.types import Document, Found, VectorStoreId
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, OTHER, World


async def test_finds_the_passage_with_its_source_and_scores(world: World) -> None:
    file = world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE, {"year": 2024})
    async with world.retriever() as retriever:
        found = await retriever.search(world.search("How many days of paid annual leave?"))
    best = found.passages[0]
    assert best.text.startswith("Every employee has 30 days")
    assert best.heading_path == ("Leave", "Annual leave")
    assert (best.filename, best.file_id, best.attributes) == ("leave.md", file.id, {"year": 2024})
    assert "Annual leave" in LEAVE.decode()[: LEAVE.decode().index(best.text)]
    assert best.lexical_score == pytest.approx(1.0)
    assert best.score == pytest.approx(0.5 * best.dense_score + 0.5 * best.lexical_score)
    assert best.score > found.passages[1].score
    assert set(found.timings_ms) == {"embed", "dense", "lexical", "fuse"}
    assert len(found.query_embedding) == HashingEmbedder().dim


async def test_an_unrelated_question_scores_low(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with world.retriever() as retriever:
        found = await retriever.search(world.search("Why is the sky blue over Mars?"))
    assert all(passage.score < 0.3 for passage in found.passages)


async def test_another_tenants_store_looks_like_an_unknown_one(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with world.retriever() as retriever:
        for store in (world.other_store, VectorStoreId("vs_nobody")):
            with pytest.raises(NotFound) as caught:
                await retriever.search(world.search("leave", vector_stores=(store,)))
            assert caught.value.message == f"No such vector store: '{store}'."
        with pytest.raises(NotFound):
            await retriever.search(world.search("leave", tenant=OTHER))


async def test_what_one_search_alone_has_wrong_joins_no_batch(world: World) -> None:
    """A batch that fails is run again one by one, so whoever is in it would wait for that."""
    world.pipeline(HashingEmbedder(64)).ingest_file(OTHER, world.other_store, "l.md", LEAVE)
    batches: list[set[VectorStoreId]] = []
    async with world.retriever() as retriever:
        rank = retriever._owner._run

        def noted(asked: Sequence[Asked]) -> Sequence[Ranked]:
            batches.append({store for one in asked for store in one.search.vector_stores})
            return rank(asked)

        retriever._owner._run = noted
        wrong = [
            world.search("leave", vector_stores=(VectorStoreId("vs_nobody"),)),
            world.search("leave", vector_stores=(world.other_store,)),
            world.search("leave", tenant=OTHER, vector_stores=(world.other_store,)),
            world.search("leave", weights={"dense": -1.0}),
        ]
        outcomes = await asyncio.gather(
            *map(retriever.search, [*wrong, world.search("leave")]), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [
        *(NotFound, NotFound, RetrievalFailed, InvalidRequest),
        Found,
    ]
    assert batches == [{world.store}]


async def test_each_tenant_finds_only_its_own(world: World) -> None:
    pipeline = world.pipeline()
    pipeline.ingest_file(ACME, world.store, "leave.md", LEAVE)
    pipeline.ingest_file(OTHER, world.other_store, "canteen.md", CANTEEN)
    async with world.retriever() as retriever:
        ours = await retriever.search(world.search("canteen", limit=10))
        theirs = await retriever.search(
            world.search("leave", limit=10, tenant=OTHER, vector_stores=(world.other_store,))
        )
    assert {passage.filename for passage in ours.passages} == {"leave.md"}
    assert {passage.filename for passage in theirs.passages} == {"canteen.md"}


async def test_a_second_replica_follows_the_first(world: World) -> None:
    async with world.retriever() as first, world.retriever() as second:
        world.pipeline().ingest_file(ACME, world.store, "canteen.md", CANTEEN)
        question = world.search("When does the canteen open?")
        await first.refresh()
        assert (await first.search(question)).passages
        assert (await second.search(question)).passages == ()
        assert await second.refresh() == await first.refresh()
        assert (await second.search(question)).passages


async def test_a_replica_follows_by_itself(world: World) -> None:
    retriever = world.retriever()
    retriever._settings = retriever._settings.model_copy(update={"poll_interval_s": 0.0})
    async with retriever:
        await asyncio.to_thread(world.pipeline().ingest_file, ACME, world.store, "l.md", LEAVE)
        while not (await retriever.search(world.search("leave"))).passages:
            await asyncio.sleep(0)
        assert await retriever.ready()


async def test_what_is_deleted_is_gone_after_the_refresh(world: World) -> None:
    pipeline = world.pipeline()
    leave = pipeline.ingest_file(ACME, world.store, "leave.md", LEAVE)
    pipeline.ingest_file(ACME, world.store, "canteen.md", CANTEEN)
    async with world.retriever() as retriever:
        world.stores.remove_file(ACME, world.store, leave.id)
        await retriever.refresh()
        found = await retriever.search(world.search("paid annual leave", limit=10))
        assert {passage.filename for passage in found.passages} == {"canteen.md"}
        world.stores.delete(ACME, world.store)
        await retriever.refresh()
        with pytest.raises(NotFound):
            await retriever.search(world.search("canteen"))


async def test_a_store_made_just_now_is_known(world: World) -> None:
    async with world.retriever() as retriever:
        store = world.stores.create(ACME, "new").id
        found = await retriever.search(world.search("leave", vector_stores=(store,)))
    assert found.passages == ()


async def test_filters_apply_inside_the_search_and_follow_changes(world: World) -> None:
    pipeline = world.pipeline()
    for n in range(30):  # more than there are candidates
        pipeline.ingest_file(ACME, world.store, f"{n}.md", LEAVE, {"year": 2020})
    wanted = pipeline.ingest_file(ACME, world.store, "canteen.md", CANTEEN, {"year": 2024})
    after_2020 = {"type": "gt", "key": "year", "value": 2020}
    async with world.retriever() as retriever:
        search = world.search("paid annual leave", filters=after_2020)
        found = await retriever.search(search)
        assert [passage.filename for passage in found.passages] == ["canteen.md"]
        world.stores.set_attributes(ACME, world.store, wanted.id, {"year": 2019})
        await retriever.refresh()
        assert (await retriever.search(search)).passages == ()
        with pytest.raises(InvalidRequest):
            await retriever.search(
                world.search("leave", filters={"type": "x", "key": 1, "value": 1})
            )


async def test_copies_count_once(world: World) -> None:
    for name in ("a.md", "b.md", "c.md"):
        world.pipeline().ingest_file(ACME, world.store, name, CANTEEN)
    async with world.retriever() as retriever:
        found = await retriever.search(world.search("canteen"))
    assert len(found.passages) == 1


async def test_documents_in_the_request_are_searched_beside_the_stores(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    document = Document("The gym opens at six.\n\nThe pool opens at seven.", "doc-1", "Sports")
    async with world.retriever() as retriever:
        found = await retriever.search(
            world.search("When does the gym open?", documents=(document,))
        )
        alone = await retriever.search(world.search("gym", documents=(document,), vector_stores=()))
    for one in (found, alone):
        best = one.passages[0]
        assert (best.file_id, best.filename, best.label) == ("doc-1", "Sports", "Sports")
        assert document.text[best.start : best.end] == best.text


async def test_too_many_inline_chunks_are_refused(world: World) -> None:
    long = Document("One more sentence of words. " * 6000, "doc-1")
    async with world.retriever() as retriever:
        with pytest.raises(InvalidRequest, match="vector store"):
            await retriever.search(world.search("words", documents=(long,)))


async def test_searching_nothing_still_embeds_the_query(world: World) -> None:
    async with world.retriever() as retriever:
        found = await retriever.search(world.search("hello", vector_stores=()))
        assert found.passages == ()
        assert [list(found.query_embedding)] == await retriever.embed(["hello"])


async def test_many_searches_at_once_get_each_their_own_answer(world: World) -> None:
    pipeline = world.pipeline()
    for n in range(20):
        text = f"# Room\n\nRoom number{n} has {n} chairs.\n".encode()
        pipeline.ingest_file(ACME, world.store, f"{n}.md", text)
    async with world.retriever() as retriever:
        found = await asyncio.gather(
            *(retriever.search(world.search(f"chairs in room number{n}")) for n in range(20))
        )
    assert [one.passages[0].filename for one in found] == [f"{n}.md" for n in range(20)]


async def test_vectors_of_another_model_are_an_error(world: World) -> None:
    world.pipeline(HashingEmbedder(64)).ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with world.retriever() as retriever:
        with pytest.raises(RetrievalFailed, match="hashing-64"):
            await retriever.search(world.search("leave"))


async def test_it_is_not_ready_before_it_starts_or_after_it_ends(world: World) -> None:
    retriever = world.retriever()
    assert not await retriever.ready()
    async with retriever:
        assert await retriever.ready()
    assert not await retriever.ready()


@pytest.mark.parametrize("whole_store", [False, True])
async def test_what_is_deleted_while_the_reranker_reads_is_not_answered(
    world: World, whole_store: bool
) -> None:
    class Slow(WordReranker):
        async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
            assert any("30 days" in text for text in texts)
            await asyncio.to_thread(delete)
            return await super().scores(query, texts)

    def delete() -> None:
        if whole_store:
            world.stores.delete(ACME, world.store)
        else:
            world.files.delete(ACME, leave.id)

    leave = world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    world.pipeline().ingest_file(ACME, world.store, "canteen.md", CANTEEN)
    document = Document("The gym opens at six.", "doc-1", "Sports")
    async with world.retriever() as retriever:
        retriever._refiner = Refiner(Slow())
        found = await retriever.search(
            world.search("paid annual leave", limit=10, rerank=True, documents=(document,))
        )
    names = {passage.filename for passage in found.passages}
    assert names == ({"Sports"} if whole_store else {"Sports", "canteen.md"})
    assert "rerank" in found.timings_ms
