"""Two tenants with the same text: to each the other's objects answer as if they did not exist."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api.conftest import Gateway
from tests.running import eventually

TEXT = b"# Pumps\n\nThe pump of Basin Nine runs at 340 litres per hour.\n"


@dataclass(frozen=True)
class Owned:
    """What one tenant has: a file in a store, put there by a batch."""

    http: httpx.Client
    file: str
    store: str
    batch: str


def own(http: httpx.Client) -> Owned:
    form = {"purpose": "assistants"}
    file = http.post("/v1/files", data=form, files={"file": ("pumps.md", TEXT)}).json()["id"]
    store = http.post("/v1/vector_stores", json={"name": "pumps"}).json()["id"]
    batches = f"/v1/vector_stores/{store}/file_batches"
    batch = http.post(batches, json={"file_ids": [file]}).json()["id"]
    eventually(lambda: http.get(f"{batches}/{batch}").json()["status"] == "completed", within_s=60)
    return Owned(http, file, store, batch)


@pytest.fixture(scope="module")
def ours(gateway: Gateway) -> Owned:
    return own(gateway.http)


@pytest.fixture(scope="module")
def theirs(gateway: Gateway) -> Owned:
    return own(gateway.rival)


UNKNOWN = {"file": "file-" + "0" * 24, "store": "vs_" + "0" * 24, "batch": "vsfb_" + "0" * 24}
S = "/v1/vector_stores/{store}"
# Every route with an id in it. `mine` are ids of the caller's own, so that each id is tried alone.
CALLS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/v1/files/{file}", None),
    ("GET", "/v1/files/{file}/content", None),
    ("GET", "/v1/files?after={file}", None),
    ("GET", "/v1/files?before={file}", None),
    ("GET", S, None),
    ("POST", S, {"name": "mine now"}),
    ("GET", "/v1/vector_stores?after={store}", None),
    ("GET", "/v1/vector_stores?before={store}", None),
    ("POST", "/v1/vector_stores", {"file_ids": ["{file}"]}),
    ("GET", S + "/files", None),
    ("POST", S + "/files", {"file_id": "{mine.file}"}),
    ("POST", "/v1/vector_stores/{mine.store}/files", {"file_id": "{file}"}),
    ("GET", S + "/files/{file}", None),
    ("POST", S + "/files/{file}", {"attributes": {}}),
    ("GET", S + "/files/{file}/content", None),
    ("GET", "/v1/vector_stores/{mine.store}/files/{file}", None),
    ("GET", "/v1/vector_stores/{mine.store}/files/{file}/content", None),
    ("GET", "/v1/vector_stores/{mine.store}/files?after={file}", None),
    ("POST", S + "/file_batches", {"file_ids": ["{mine.file}"]}),
    ("POST", "/v1/vector_stores/{mine.store}/file_batches", {"file_ids": ["{file}"]}),
    ("GET", S + "/file_batches/{batch}", None),
    ("GET", "/v1/vector_stores/{mine.store}/file_batches/{batch}", None),
    ("POST", "/v1/vector_stores/{mine.store}/file_batches/{batch}/cancel", None),
    ("GET", "/v1/vector_stores/{mine.store}/file_batches/{batch}/files", None),
    ("GET", "/v1/vector_stores/{mine.store}/file_batches/{mine.batch}/files?after={file}", None),
    ("POST", S + "/search", {"query": "pump of Basin Nine"}),
    ("DELETE", "/v1/vector_stores/{mine.store}/files/{file}", None),
    ("DELETE", S + "/files/{file}", None),
    ("DELETE", S, None),
    ("DELETE", "/v1/files/{file}", None),
]


def filled(value: Any, ids: dict[str, str], mine: Owned) -> Any:
    if isinstance(value, dict):
        return {key: filled(inner, ids, mine) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, ids, mine) for inner in value]
    return value.format(**ids, mine=mine) if isinstance(value, str) else value


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_anothers_id_answers_as_an_unknown_one(
    ours: Owned, theirs: Owned, method: str, path: str, body: dict[str, Any] | None
) -> None:
    foreign = {"file": ours.file, "store": ours.store, "batch": ours.batch}

    def ask(ids: dict[str, str]) -> tuple[int, str]:
        answer = theirs.http.request(
            method, filled(path, ids, theirs), json=filled(body, ids, theirs)
        )
        return answer.status_code, re.sub(r"(file-|vs_|vsfb_)[0-9a-f]{24}", r"\1…", answer.text)

    assert ask(foreign) == ask(UNKNOWN)
    assert ask(foreign)[0] == 404


def test_nothing_above_took_anything_away(ours: Owned) -> None:
    file = ours.http.get(f"/v1/vector_stores/{ours.store}/files/{ours.file}").json()
    assert (file["status"], ours.http.get(f"/v1/vector_stores/{ours.store}").json()["name"]) == (
        "completed",
        "pumps",
    )


def test_the_same_text_is_found_by_each_in_its_own_store_alone(ours: Owned, theirs: Owned) -> None:
    for tenant in (ours, theirs):
        url = f"/v1/vector_stores/{tenant.store}/search"
        page = tenant.http.post(url, json={"query": "pump of Basin Nine"}).json()
        assert [hit["file_id"] for hit in page["data"]] == [tenant.file]
        assert "timings" not in str(page)


def test_lists_hold_ones_own_alone(ours: Owned, theirs: Owned) -> None:
    for path in ("/v1/files", "/v1/vector_stores?limit=100"):
        mine = {item["id"] for item in ours.http.get(path).json()["data"]}
        other = {item["id"] for item in theirs.http.get(path).json()["data"]}
        assert mine and other and not mine & other


def test_a_delete_leaves_the_others_twin(gateway: Gateway) -> None:
    """The bytes are kept once for both."""
    first, second = own(gateway.http), own(gateway.rival)
    assert first.http.delete(f"/v1/files/{first.file}").status_code == 200
    assert second.http.get(f"/v1/files/{second.file}/content").content == TEXT
    url = f"/v1/vector_stores/{second.store}/search"
    assert second.http.post(url, json={"query": "pump of Basin Nine"}).json()["data"]
