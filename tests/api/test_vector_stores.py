"""Files and vector stores through the `openai` SDK: every method, every parameter, every helper."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import VectorStore
from openai.types.vector_stores import VectorStoreFile

from tests.api.conftest import Gateway

PUMPS = b"# Pumps\n\nThe pump of Basin Nine runs at 340 litres per hour.\n"
VALVES = b"# Valves\n\nValve Six is made of brass and closes in two seconds.\n"
LONG = "# Rules\n\n" + "\n\n".join(f"Rule {n} says that door {n} is shut." for n in range(80))
STATIC: Any = {
    "type": "static",
    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20},
}


@pytest.fixture
def client(gateway: Gateway) -> OpenAI:
    return gateway.client


@pytest.fixture
def store(client: OpenAI) -> VectorStore:
    return client.vector_stores.create(name="contract")


def uploaded(client: OpenAI, name: str = "pumps.md", data: bytes = PUMPS) -> str:
    return client.files.create(file=(name, data), purpose="assistants").id


def ready(client: OpenAI, store: VectorStore, data: bytes = PUMPS, **more: Any) -> VectorStoreFile:
    """A file that is in the store and completed."""
    file = client.vector_stores.files.create_and_poll(
        uploaded(client, more.pop("name", "pumps.md"), data), vector_store_id=store.id, **more
    )
    assert file.status == "completed", file.last_error
    return file


def refusal(call: Any, *args: Any, **fields: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as refused:
        call(*args, **fields)
    return refused.value


# Files


@pytest.mark.parametrize(
    "purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
)
def test_a_file_keeps_its_purpose_and_is_listed_by_it(client: OpenAI, purpose: Any) -> None:
    file = client.files.create(file=("a.jsonl", b"{}\n"), purpose=purpose)
    assert client.files.retrieve(file.id) == file
    assert file.id in [f.id for f in client.files.list(purpose=purpose)]
    assert all(f.purpose == purpose for f in client.files.list(purpose=purpose, limit=3))
    assert (file.expires_at is not None) is (purpose == "batch")
    assert client.files.wait_for_processing(file.id).status == "processed"
    assert client.files.delete(file.id).deleted


def test_a_file_expires_when_it_was_told_to(client: OpenAI) -> None:
    create = client.files.create
    policy: Any = {"anchor": "created_at", "seconds": 3600}
    file = create(file=("a.md", PUMPS), purpose="user_data", expires_after=policy)
    assert file.expires_at == file.created_at + 3600
    for odd in ({"anchor": "now", "seconds": 3600}, {"anchor": "created_at", "seconds": 60}):
        policy = odd
        error = refusal(create, file=("a.md", PUMPS), purpose="user_data", expires_after=policy)
        assert error.status_code == 400
        assert str(error.param).startswith("expires_after")


def test_content_is_a_download_of_its_own_kind(client: OpenAI) -> None:
    file = client.files.create(file=("Ü b.html", b"<p>hi</p>"), purpose="assistants")
    content = client.files.content(file.id)
    assert content.read() == b"<p>hi</p>"
    headers = content.response.headers
    assert headers["content-type"].startswith("text/html")
    assert headers["content-disposition"] == "attachment; filename*=utf-8''%C3%9C%20b.html"
    assert headers["x-content-type-options"] == "nosniff"


def test_an_upload_names_what_is_wrong(gateway: Gateway) -> None:
    def post(**form: str) -> Any:
        files = {"file": ("a.md", PUMPS)}
        return gateway.http.post("/v1/files", data=form, files=files).json()["error"]["param"]

    assert post() == "purpose"
    assert post(purpose="fun") == "purpose"
    assert post(purpose="assistants", colour="red") == "colour"
    lonely = gateway.http.post("/v1/files", data={"purpose": "assistants"})
    assert lonely.json()["error"]["param"] == "file"


def test_the_sdk_pages_through_files(client: OpenAI) -> None:
    wanted = [uploaded(client, f"{n}.md") for n in range(5)]
    for order in ("asc", "desc"):
        seen = [f.id for f in client.files.list(limit=2, order=order) if f.id in wanted]
        assert sorted(seen) == sorted(wanted)
    assert len(client.files.list().data) >= 5


# Stores


def test_a_store_begins_with_all_it_was_given(client: OpenAI) -> None:
    store = client.vector_stores.create(
        name="whole",
        description="What there is about pumps.",
        metadata={"owner": "water"},
        expires_after={"anchor": "last_active_at", "days": 7},
        file_ids=[uploaded(client)],
        chunking_strategy=STATIC,
        extra_body={"engram": {"ranking": {"dense": 1, "lexical": 2}}},
    )
    assert store.status == "in_progress"
    assert store.file_counts.total == 1
    assert (store.name, store.metadata) == ("whole", {"owner": "water"})
    assert store.expires_after is not None and store.last_active_at is not None
    assert store.expires_after.days == 7
    assert store.expires_at == store.last_active_at + 7 * 86_400
    extra = store.model_extra or {}
    assert extra["description"] == "What there is about pumps."
    assert extra["engram"] == {"ranking": {"dense": 1.0, "lexical": 2.0}}
    [file] = client.vector_stores.files.list(store.id)
    client.vector_stores.files.poll(file.id, vector_store_id=store.id)
    again = client.vector_stores.retrieve(store.id)
    assert (again.status, again.file_counts.completed) == ("completed", 1)
    assert again.usage_bytes == len(PUMPS)
    assert file.chunking_strategy is not None
    assert file.chunking_strategy.model_dump() == STATIC


def test_a_store_changes_what_is_sent_and_null_clears(client: OpenAI) -> None:
    store = client.vector_stores.create(name="old", metadata={"a": "1"})
    update = client.vector_stores.update
    assert update(store.id, name="new").metadata == {"a": "1"}
    policy = update(store.id, expires_after={"anchor": "last_active_at", "days": 1})
    assert policy.name == "new" and policy.expires_after is not None
    cleared = update(store.id, name=None, metadata=None, expires_after=None)
    assert (cleared.name, cleared.metadata, cleared.expires_after) == ("", {}, None)
    ranked = update(store.id, extra_body={"engram": {"ranking": {"dense": 0, "lexical": 1}}})
    assert (ranked.model_extra or {})["engram"]["ranking"] == {"dense": 0.0, "lexical": 1.0}
    assert (update(store.id, name="x").model_extra or {})["engram"]["ranking"]
    reset = update(store.id, extra_body={"engram": None})
    assert (reset.model_extra or {})["engram"]["ranking"] is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": 3}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65),
        ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "v" * 513}}, "metadata.a"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "last_active_at", "days": 366}}, "expires_after.days"),
        ({"expires_after": {"anchor": "last_active_at"}}, "expires_after.days"),
        ({"chunking_strategy": {"type": "static"}}, "chunking_strategy"),
        ({"file_ids": [3]}, "file_ids[0]"),
        ({"engram": {"ranking": {"dense": 0, "lexical": 0}}}, "engram.ranking"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_store_refuses_by_name(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    error = refusal(client.vector_stores.create, extra_body=fields)
    assert (error.status_code, error.param) == (400, param)
    assert param in error.message


def test_stores_are_listed_both_ways(client: OpenAI) -> None:
    made = [client.vector_stores.create(name=f"s{n}").id for n in range(3)]
    whole = [s.id for s in client.vector_stores.list(limit=2, order="asc")]
    assert set(made) <= set(whole)
    back = client.vector_stores.list(before=whole[2], limit=1, order="asc")
    assert ([s.id for s in back.data], back.has_more) == ([whole[1]], True)
    assert refusal(client.vector_stores.list, after="vs_none").status_code == 404
    deleted = client.vector_stores.delete(made[0])
    assert deleted.deleted and deleted.object == "vector_store.deleted"
    assert refusal(client.vector_stores.retrieve, made[0]).status_code == 404


# Files in stores


def test_every_way_to_put_a_file_in_ends_completed(client: OpenAI, store: VectorStore) -> None:
    files = client.vector_stores.files
    plain = files.create(store.id, file_id=uploaded(client))
    assert plain.status == "in_progress"
    assert files.poll(plain.id, vector_store_id=store.id).status == "completed"
    sent = files.upload(vector_store_id=store.id, file=("valves.md", VALVES))
    assert files.poll(sent.id, vector_store_id=store.id, max_wait_seconds=60).status == "completed"
    both = files.upload_and_poll(
        vector_store_id=store.id,
        file=("rules.md", LONG.encode()),
        attributes={"team": "doors", "year": 2026, "open": False},
        chunking_strategy={"type": "auto"},
    )
    assert both.status == "completed"
    assert both.attributes == {"team": "doors", "year": 2026, "open": False}
    raw = files.with_raw_response.retrieve(both.id, vector_store_id=store.id)
    assert "openai-poll-after-ms" not in raw.headers


def test_the_poll_header_says_when_to_come_back(client: OpenAI, store: VectorStore) -> None:
    raw = client.vector_stores.files.with_raw_response.create(store.id, file_id=uploaded(client))
    assert 0 < int(raw.headers["openai-poll-after-ms"]) <= 2_000


def test_attributes_are_replaced_and_searches_follow(client: OpenAI, store: VectorStore) -> None:
    file = ready(client, store, attributes={"team": "water", "year": 2025})
    update = client.vector_stores.files.update
    changed = update(file.id, vector_store_id=store.id, attributes={"team": "fire"})
    assert changed.attributes == {"team": "fire"}
    fire: Any = {"type": "eq", "key": "team", "value": "fire"}
    assert client.vector_stores.search(store.id, query="pump", filters=fire).data
    assert update(file.id, vector_store_id=store.id, attributes=None).attributes == {}
    assert not client.vector_stores.search(store.id, query="pump", filters=fire).data


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "file_id"),
        ({"file_id": "x", "attributes": {"a": None}}, "attributes.a"),
        ({"file_id": "x", "attributes": {"a": ["b"]}}, "attributes.a"),
        ({"file_id": "x", "attributes": {"a": "v" * 513}}, "attributes.a"),
        ({"file_id": "x", "attributes": {str(n): n for n in range(17)}}, "attributes"),
        ({"file_id": "x", "chunking_strategy": {"type": "best"}}, "chunking_strategy.type"),
        (
            {
                "file_id": "x",
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 0},
                },
            },
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        (
            {
                "file_id": "x",
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51},
                },
            },
            "chunking_strategy.static",
        ),
        ({"file_id": "x", "colour": "red"}, "colour"),
    ],
)
def test_attaching_refuses_by_name(
    gateway: Gateway, store: VectorStore, fields: dict[str, Any], param: str
) -> None:
    refused = gateway.http.post(f"/v1/vector_stores/{store.id}/files", json=fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_content_is_the_text_once_however_chunks_overlap(
    client: OpenAI, store: VectorStore
) -> None:
    file = ready(client, store, LONG.encode(), name="rules.md", chunking_strategy=STATIC)
    pieces = client.vector_stores.files.content(file.id, vector_store_id=store.id).data
    text = "\n".join(piece.text or "" for piece in pieces)
    assert len(pieces) > 1
    assert {piece.type for piece in pieces} == {"text"}
    for n in range(80):
        assert text.count(f"Rule {n} says") == 1


def test_a_file_that_cannot_be_read_fails_with_its_code(client: OpenAI, store: VectorStore) -> None:
    batch = client.vector_stores.file_batches.upload_and_poll(
        store.id,
        files=[("a.exe", b"MZ\x00"), ("broken.pdf", b"%PDF-1.4 no"), ("fine.md", PUMPS)],
    )
    assert (batch.status, batch.file_counts.failed) == ("completed", 2)
    listed = client.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store.id, filter="failed"
    )
    errors = [file.last_error for file in listed]
    assert len(errors) == 2
    for error in errors:
        assert error is not None and error.message
        assert error.code in ("unsupported_file", "invalid_file")
    only_bad = client.vector_stores.file_batches.upload_and_poll(
        store.id, files=[("b.exe", b"MZ\x00")]
    )
    assert only_bad.status == "failed"


def test_files_are_listed_by_status_and_both_ways(client: OpenAI, store: VectorStore) -> None:
    good = [ready(client, store, name=f"{n}.md").id for n in range(3)]
    bad = uploaded(client, "a.exe", b"MZ\x00")
    client.vector_stores.files.create_and_poll(bad, vector_store_id=store.id)
    listed = client.vector_stores.files.list
    assert {f.id for f in listed(store.id, filter="completed", limit=2)} == set(good)
    assert [f.id for f in listed(store.id, filter="failed")] == [bad]
    assert listed(store.id, filter="cancelled").data == []
    order = [f.id for f in listed(store.id, order="asc")]
    assert [f.id for f in listed(store.id, order="asc", before=order[3]).data] == order[:3]
    assert [f.id for f in listed(store.id, order="desc", after=order[3]).data] == order[:3][::-1]
    for odd in ({"filter": "odd"}, {"limit": 101}, {"order": "up"}):
        error = refusal(listed, store.id, **odd)
        assert (error.status_code, error.param) == (400, next(iter(odd)))


def test_what_is_taken_out_or_deleted_is_not_found_by_the_next_search(
    client: OpenAI, store: VectorStore
) -> None:
    pumps, valves = ready(client, store), ready(client, store, VALVES, name="valves.md")
    found = client.vector_stores.search
    assert {hit.file_id for hit in found(store.id, query="pump valve brass Basin Nine")} == {
        pumps.id,
        valves.id,
    }
    gone = client.vector_stores.files.delete(pumps.id, vector_store_id=store.id)
    assert gone.deleted and gone.object == "vector_store.file.deleted"
    assert {hit.file_id for hit in found(store.id, query="pump valve brass")} == {valves.id}
    client.files.delete(valves.id)
    assert found(store.id, query="pump valve brass").data == []
    assert client.files.retrieve(pumps.id).id == pumps.id


# Batches


def test_a_batch_has_attributes_for_all_or_for_each(client: OpenAI, store: VectorStore) -> None:
    batches = client.vector_stores.file_batches
    ids = [uploaded(client, f"{n}.md") for n in range(3)]
    same = batches.create_and_poll(
        store.id, file_ids=ids, attributes={"n": 0}, chunking_strategy=STATIC
    )
    assert (same.status, same.file_counts.completed, same.file_counts.total) == ("completed", 3, 3)
    listed = batches.list_files(same.id, vector_store_id=store.id)
    assert [file.attributes for file in listed] == [{"n": 0}] * 3
    own = batches.create_and_poll(
        store.id,
        files=[{"file_id": id, "attributes": {"n": n}} for n, id in enumerate(ids)],
    )
    files = batches.list_files(own.id, vector_store_id=store.id, limit=2, order="asc")
    assert {f.id: f.attributes for f in files} == {id: {"n": n} for n, id in enumerate(ids)}
    assert batches.retrieve(own.id, vector_store_id=store.id) == own
    assert client.vector_stores.retrieve(store.id).file_counts.total == 3


def test_a_batch_that_has_ended_is_not_cancelled(client: OpenAI, store: VectorStore) -> None:
    batches = client.vector_stores.file_batches
    batch = batches.create_and_poll(store.id, file_ids=[uploaded(client)])
    assert batches.cancel(batch.id, vector_store_id=store.id).status == "completed"


def test_a_batch_with_an_unknown_file_attaches_nothing(client: OpenAI, store: VectorStore) -> None:
    ids = [uploaded(client), "file-none"]
    error = refusal(client.vector_stores.file_batches.create, store.id, file_ids=ids)
    assert error.status_code == 404 and "file-none" in error.message
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0
    for both in ({}, {"file_ids": ["a"], "files": [{"file_id": "a"}]}):
        assert (
            refusal(client.vector_stores.file_batches.create, store.id, extra_body=both).status_code
            == 400
        )


# Search


@pytest.fixture(scope="module")
def library(gateway: Gateway) -> VectorStore:
    store = gateway.client.vector_stores.create(name="library")
    for n, (name, data) in enumerate({"pumps.md": PUMPS, "valves.md": VALVES}.items()):
        ready(gateway.client, store, data, name=name, attributes={"n": n, "name": name})
    return store


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "n", "value": 1}, {"valves.md"}),
        ({"type": "ne", "key": "n", "value": 1}, {"pumps.md"}),
        ({"type": "gt", "key": "n", "value": 0}, {"valves.md"}),
        ({"type": "gte", "key": "n", "value": 0}, {"valves.md", "pumps.md"}),
        ({"type": "lt", "key": "n", "value": 1}, {"pumps.md"}),
        ({"type": "lte", "key": "n", "value": 1}, {"valves.md", "pumps.md"}),
        ({"type": "in", "key": "name", "value": ["pumps.md", "x"]}, {"pumps.md"}),
        ({"type": "nin", "key": "name", "value": ["pumps.md"]}, {"valves.md"}),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "n", "value": 0},
                    {
                        "type": "and",
                        "filters": [
                            {"type": "gt", "key": "n", "value": 0},
                            {"type": "eq", "key": "name", "value": "nothing"},
                        ],
                    },
                ],
            },
            {"pumps.md"},
        ),
    ],
)
def test_filters(client: OpenAI, library: VectorStore, filters: Any, names: set[str]) -> None:
    hits = client.vector_stores.search(library.id, query="pump valve", filters=filters)
    assert {hit.filename for hit in hits} == names


def test_several_queries_take_turns(client: OpenAI, library: VectorStore) -> None:
    search = client.vector_stores.search
    page = search(library.id, query=["pump of Basin Nine", "Valve Six brass"], max_num_results=2)
    assert [hit.filename for hit in page.data] == ["pumps.md", "valves.md"]
    assert (page.model_extra or {})["search_query"] == ["pump of Basin Nine", "Valve Six brass"]
    assert len(search(library.id, query=["pump", "valve"], max_num_results=1).data) == 1


def test_a_rewritten_query_is_shown(client: OpenAI, library: VectorStore) -> None:
    query = "Ticket 12: which valve is made of brass?"
    for rewrite, searched in ((False, query), (True, "which valve is made of brass?")):
        page = client.vector_stores.search(library.id, query=query, rewrite_query=rewrite)
        assert (page.model_extra or {})["search_query"] == [searched]
        assert page.data[0].filename == "valves.md"


def test_ranking_options_are_obeyed(client: OpenAI, library: VectorStore) -> None:
    search = client.vector_stores.search
    for ranker in ("none", "auto", "default-2024-11-15"):
        options: Any = {"ranker": ranker, "score_threshold": 0.0}
        assert search(library.id, query="brass", ranking_options=options).data
    assert search(library.id, query="brass", ranking_options={"score_threshold": 1.0}).data == []
    words = {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}}
    assert search(library.id, query="brass", extra_body=words).data[0].filename == "valves.md"
    consistent = {"engram": {"consistent": True}}
    assert search(library.id, query="brass", rewrite_query=True, extra_body=consistent).data


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": ["a", ""]}, "query"),
        ({"query": []}, "query"),
        ({"query": ["a"] * 17}, "query"),
        ({"query": "a", "max_num_results": 51}, "max_num_results"),
        ({"query": "a", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
        ({"query": "a", "ranking_options": {"top": 1}}, "ranking_options.top"),
        ({"query": "a", "rewrite_query": "yes"}, "rewrite_query"),
        ({"query": "a", "filters": {"type": "eq", "key": "n"}}, "filters"),
        ({"query": "a", "filters": {"type": "like", "key": "n", "value": 1}}, "filters"),
        ({"query": "a", "filters": {"type": "and", "filters": [3]}}, "filters"),
        ({"query": "a", "engram": {"mode": "rag"}}, "engram.mode"),
        ({"query": "a", "limit": 3}, "limit"),
    ],
)
def test_a_search_refuses_by_name(
    gateway: Gateway, library: VectorStore, fields: dict[str, Any], param: str
) -> None:
    refused = gateway.http.post(f"/v1/vector_stores/{library.id}/search", json=fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
