"""How soon a replica sees what another process did: deletions at once, the rest when followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from serving.errors import NotFound, RetrievalFailed
from serving.retrieval.embedder import HashingEmbedder
from serving.retrieval.following import SLICE
from serving.retrieval.index import ExactIndex
from serving.retrieval.lexical import ExactLexical
from serving.retrieval.library import Library
from serving.retrieval.local_retriever import LocalRetriever
from serving.retrieval.shard import WHOLE, Shard, shard_of
from serving.retrieval.shelf import Shelf
from serving.settings import RetrievalSettings
from serving.store.chunks import Deletion, FileState, StoredChunk, StoreState
from serving.store.models import VectorStoreRow
from serving.store.scope import DAY_S
from serving.store.sequence import advance, newest
from serving.store.splitting import split_if_large
from serving.types import Document, Found, Passage, Search, VectorStoreId
from tests.retrieval.conftest import ACME, CANTEEN, LEAVE, NEVER_S, World

SETTINGS = RetrievalSettings(embedder="hashing", poll_interval_s=NEVER_S)
STORE = VectorStoreId("vs_1")


def names(found: Found) -> set[str]:
    return {passage.filename for passage in found.passages}


def replica(world: World, shard: Shard = WHOLE) -> LocalRetriever:
    return LocalRetriever(SETTINGS, world.db, shard=shard)


# Deletions


async def test_a_deleted_file_is_invisible_to_the_very_next_search_on_every_replica(
    world: World,
) -> None:
    leave = world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    world.pipeline().ingest_file(ACME, world.store, "canteen.md", CANTEEN)
    question = world.search("paid annual leave", limit=10)
    async with replica(world) as first, replica(world) as second:
        for one in (first, second):
            assert "leave.md" in names(await one.search(question))
        await asyncio.to_thread(world.files.delete, ACME, leave.id)
        for one in (first, second):
            assert names(await one.search(question)) == {"canteen.md"}


async def test_a_deleted_store_is_unknown_to_the_very_next_search(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with replica(world) as retriever:
        await asyncio.to_thread(world.stores.delete, ACME, world.store)
        with pytest.raises(NotFound):
            await retriever.search(world.search("leave"))


async def test_a_large_deletion_is_followed_in_slices(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"\n\n".join(b"## %d\n\nwords" % n for n in range(2 * SLICE + 1))
    file = world.pipeline().ingest_file(ACME, world.store, "long.md", text)
    at_once = list[int]()
    remove = Library.remove

    def counted(library: Library, deleted: Sequence[Deletion]) -> dict[VectorStoreId, list[int]]:
        at_once.append(len(deleted))
        return remove(library, deleted)

    monkeypatch.setattr(Library, "remove", counted)
    async with replica(world) as retriever:
        await asyncio.to_thread(world.files.delete, ACME, file.id)
        await retriever.refresh()
        assert at_once == [SLICE, SLICE, 1]
        assert not (await retriever.search(world.search("words"))).passages


async def test_a_new_version_shows_as_soon_as_the_old_one_is_hidden(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    async with replica(world) as retriever:
        changed = LEAVE.replace(b"30 days", b"31 days")
        await asyncio.to_thread(
            world.pipeline().ingest_file, ACME, world.store, "leave.md", changed
        )
        question = world.search("How many days of paid annual leave?")
        texts = [p.text for p in (await retriever.search(question)).passages]
        assert not any("30 days" in text for text in texts)
        async with asyncio.timeout(30):  # the deletion woke the follower; no poll is due
            while not any("31 days" in text for text in texts):
                texts = [p.text for p in (await retriever.search(question)).passages]


async def test_without_sql_no_store_is_searched_and_documents_still_are(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    document = Document("The gym opens at six.", "doc-1", "Sports")
    async with replica(world) as retriever:
        with world.db.session() as session:
            session.execute(text("ALTER TABLE sequence RENAME TO away"))
        stores = retriever.search(world.search("leave"))
        inline = retriever.search(
            world.search("When does the gym open?", documents=(document,), vector_stores=())
        )
        failed, found = await asyncio.gather(stores, inline, return_exceptions=True)
        assert isinstance(failed, RetrievalFailed)
        assert isinstance(found, Found) and names(found) == {"Sports"}
        with world.db.session() as session:
            session.execute(text("ALTER TABLE away RENAME TO sequence"))
        async with asyncio.timeout(30):
            while not await answers(retriever, world.search("leave")):
                await asyncio.sleep(0)


async def answers(retriever: LocalRetriever, search: Search) -> bool:
    try:
        return bool((await retriever.search(search)).passages)
    except RetrievalFailed:
        return False


def library() -> Library:
    dim = HashingEmbedder().dim
    library = Library(WHOLE, dim, lambda: Shelf(ExactIndex(dim), ExactLexical()))
    library.put_states(
        [StoreState(STORE, ACME, None, False)], [FileState(STORE, "file-1", "a.md", {})]
    )
    return library


def chunk(key: int) -> StoredChunk:
    vector = HashingEmbedder().embed([f"chunk {key}"])[0]
    return StoredChunk(key, f"file-1-{key}", STORE, "file-1", "text", "", (), 0, 4, vector)


def test_a_chunk_that_was_read_before_its_deletion_is_refused_after_it() -> None:
    one = library()
    rows = [chunk(5), chunk(6)]
    passages = {row.seq: Passage(row.id, row.text, "a.md", row.file_id) for row in rows}
    one.remove([Deletion(STORE, 5, 9)])
    assert one.add(STORE, passages, rows) == [5]
    assert set(one.shelves[STORE].passages) == {6}
    one.settle(8)
    assert one.add(STORE, passages, rows) == [5]
    one.settle(9)  # whoever reads now reads nothing that was deleted
    assert one.add(STORE, passages, rows[:1]) == []


def test_a_file_that_is_ingested_again_keeps_its_name_and_attributes() -> None:
    one = library()
    first, again = chunk(5), chunk(6)
    for row in (first, again):
        one.put_states((), [FileState(STORE, "file-1", "a.md", {"n": row.seq})])
        passages = {row.seq: Passage(row.id, row.text, "a.md", row.file_id)}
        one.remove([Deletion(STORE, 5, 6)] if row is again else [])
        one.add(STORE, passages, [row])
    one.settle(6)
    assert one.shelves[STORE].file("file-1").attributes == {"n": 6}
    one.remove([Deletion(STORE, 6, 7)])
    one.settle(7)
    assert one.shelves[STORE].file("file-1").attributes == {}


# Reading one's writes


async def test_a_consistent_search_sees_what_was_written_before_it(world: World) -> None:
    async with replica(world) as retriever:
        await asyncio.to_thread(world.pipeline().ingest_file, ACME, world.store, "l.md", LEAVE)
        question = world.search("paid annual leave")
        assert (await retriever.search(question)).passages == ()
        consistent = world.search("paid annual leave", consistent=True)
        assert names(await retriever.search(consistent)) == {"l.md"}


async def test_many_refreshes_at_once_share_a_run_that_began_after_them(world: World) -> None:
    async with replica(world) as retriever:
        await asyncio.to_thread(world.pipeline().ingest_file, ACME, world.store, "l.md", LEAVE)
        seqs = await asyncio.gather(*(retriever.refresh() for _ in range(20)))
        assert len(set(seqs)) == 1
        assert (await retriever.search(world.search("leave"))).passages


async def test_replicas_agree_within_a_second_by_themselves(world: World) -> None:
    settings = SETTINGS.model_copy(update={"poll_interval_s": 0.1})
    retrievers = [LocalRetriever(settings, world.db) for _ in range(2)]
    async with retrievers[0] as first, retrievers[1] as second:
        await asyncio.to_thread(world.pipeline().ingest_file, ACME, world.store, "l.md", LEAVE)
        for one in (first, second):
            async with asyncio.timeout(30):
                while not (await one.search(world.search("leave"))).passages:
                    await asyncio.sleep(0.01)


async def test_when_sql_was_restored_to_an_earlier_state_it_starts_over(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    with world.db.snapshot() as session:
        saved = newest(session)
    world.pipeline().ingest_file(ACME, world.store, "canteen.md", CANTEEN)
    async with replica(world) as retriever:
        with world.db.session() as session:
            session.execute(text(f"DELETE FROM chunks WHERE seq > {saved}"))
            session.execute(text(f"DELETE FROM vector_store_files WHERE seq > {saved}"))
            session.execute(text(f"UPDATE sequence SET value = {saved} WHERE name = 'changes'"))
        assert await retriever.refresh() == saved
        found = await retriever.search(world.search("canteen annual leave", limit=10))
        assert names(found) == {"leave.md"}


# Expiry


async def test_an_expired_store_is_not_searched_unless_it_was_used_again(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    with world.db.session() as session:
        row = session.get_one(VectorStoreRow, world.store)
        row.seq, row.expires_after_days, row.last_active_at = advance(session), 1, 1_000_000
    clock = [1_000_000.0]
    async with LocalRetriever(SETTINGS, world.db, clock=lambda: clock[0]) as retriever:
        assert (await retriever.search(world.search("leave"))).passages
        clock[0] += DAY_S
        assert (await retriever.search(world.search("leave"))).passages == ()
        with world.db.session() as session:  # takes no number of the sequence
            session.get_one(VectorStoreRow, world.store).last_active_at = int(clock[0])
        assert (await retriever.search(world.search("leave"))).passages


async def test_a_store_that_is_given_an_end_later_ends_without_a_sweep(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    now = world.stores.get(ACME, world.store).last_active_at
    clock = [float(now)]
    async with LocalRetriever(SETTINGS, world.db, clock=lambda: clock[0]) as retriever:
        assert (await retriever.search(world.search("leave"))).passages
        world.stores.update(ACME, world.store, expires_after_days=1)
        await retriever.refresh()
        assert (await retriever.search(world.search("leave"))).passages
        clock[0] += DAY_S
        assert (await retriever.search(world.search("leave"))).passages == ()


# Shards


async def test_a_part_is_not_loaded_for_a_search_that_outlives_the_retriever(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    other = Shard(1 - shard_of(world.store, 2), 2)
    async with replica(world, other) as retriever:
        follower = retriever._follower
        follower.library.incoming.add(world.store)
    async with asyncio.timeout(30):
        assert not await asyncio.to_thread(follower.load_incoming)  # nobody would answer it


async def test_a_shard_keeps_its_own_stores_only(world: World) -> None:
    world.pipeline().ingest_file(ACME, world.store, "leave.md", LEAVE)
    owner = shard_of(world.store, 2)
    async with replica(world, Shard(owner, 2)) as own, replica(world, Shard(1 - owner, 2)) as other:
        assert (await own.search(world.search("leave"))).passages
        assert (await other.search(world.search("leave"))).passages == ()


async def test_a_store_that_is_split_stays_complete(world: World) -> None:
    for n in range(12):
        data = f"# Room {n}\n\nRoom number{n} has {n} chairs.\n".encode()
        world.pipeline().ingest_file(ACME, world.store, f"{n}.md", data)
    everything = {f"{n}.md" for n in range(12)}
    question = world.search("chairs in a room", limit=50)
    owner = shard_of(world.store, 2)
    async with replica(world, Shard(owner, 2)) as own, replica(world, Shard(1 - owner, 2)) as other:
        before = await own.search(question)
        assert (names(before), before.split) == (everything, ())
        assert split_if_large(world.db, world.store, above=1)
        await own.refresh()
        after = await own.search(question)
        assert (names(after), after.split) == (everything, ())  # it keeps what it has
        part = await other.search(question)  # being asked, it learns of the split and loads
        async with replica(world, Shard(owner, 2)) as again:
            rest = await again.search(question)
        assert part.split == rest.split == (world.store,)
        assert names(part) | names(rest) == everything
        assert names(part).isdisjoint(names(rest)) and part.passages and rest.passages
