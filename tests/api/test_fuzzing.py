"""Whatever is sent, no answer is a 500, and every error has OpenAI's shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Gateway
from tests.running import eventually

MARKDOWN = "# Pumps\n\nPump {n} of Basin Nine runs at 340 litres per hour.\n"
FUZZ = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "auto", "static", "last_active_at", "\x00", "x" * 600])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
comparisons = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "like", 1]),
        "key": st.sampled_from(["number", "name", "none", "", 3]),
        "value": scalars | st.lists(scalars, max_size=3),
    }
)
filters = st.recursive(
    comparisons | st.dictionaries(st.sampled_from(["number", "type", "key", "value"]), values),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or", "not"]), "filters": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)


@dataclass(frozen=True)
class Filled:
    """A store of seven files, attached as a batch."""

    http: httpx.Client
    store: str
    batch: str
    files: list[str]


@pytest.fixture(scope="module")
def filled(gateway: Gateway) -> Filled:
    client = gateway.client
    files = [
        client.files.create(
            file=(f"{n}.md", MARKDOWN.format(n=n).encode()), purpose="assistants"
        ).id
        for n in range(7)
    ]
    store = client.vector_stores.create(name="fuzzed").id
    batch = client.vector_stores.file_batches.create_and_poll(
        store,
        files=[{"file_id": id, "attributes": {"number": n}} for n, id in enumerate(files)],
        poll_interval_ms=50,
    )
    assert batch.file_counts.completed == len(files)
    return Filled(gateway.http, store, batch.id, files)


def expect_an_answer(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error = response.json()["error"]
        assert error["message"] and error["type"] and error["code"]
        assert error["param"] is None or isinstance(error["param"], str)


BODIES: dict[str, dict[str, Any]] = {
    "/v1/vector_stores": {
        "name": "a",
        "file_ids": [],
        "metadata": {},
        "expires_after": {"anchor": "last_active_at", "days": 1},
        "chunking_strategy": {"type": "auto"},
        "engram": {"ranking": {"dense": 1, "lexical": 1}},
    },
    "/v1/vector_stores/{store}": {"name": "b", "metadata": None, "expires_after": None},
    "/v1/vector_stores/{store}/files": {
        "file_id": "{file}",
        "attributes": {"number": 1},
        "chunking_strategy": {
            "type": "static",
            "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
        },
    },
    "/v1/vector_stores/{store}/files/{file}": {"attributes": {"number": 1}},
    "/v1/vector_stores/{store}/file_batches": {"files": [{"file_id": "{file}"}]},
    "/v1/vector_stores/{store}/search": {
        "query": "pump",
        "filters": {"type": "eq", "key": "number", "value": 1},
        "max_num_results": 2,
        "ranking_options": {"ranker": "none", "score_threshold": 0.1},
        "rewrite_query": True,
        "engram": {"consistent": True},
    },
    "/v1/chat/completions": {
        "model": "engram-demo",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3,
        "engram": {"mode": "base", "filters": {}},
    },
    "/v1/completions": {"model": "engram-demo", "prompt": "hi", "max_tokens": 3},
    "/v1/responses": {"model": "engram-demo", "input": "hi", "max_output_tokens": 3},
    "/v1/embeddings": {"model": "all-MiniLM-L6-v2", "input": "hi"},
}


@st.composite
def altered(draw: st.DrawFn, body: dict[str, Any]) -> Any:
    """The body with one place in it replaced or added to."""
    copy = json.loads(json.dumps(body))
    place = copy
    while True:
        key = draw(st.sampled_from([*place, "surplus"]))
        inner = place.get(key)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict) and draw(st.booleans()):
            inner = inner[0]
        if isinstance(inner, dict) and draw(st.booleans()):
            place = inner
            continue
        place[key] = draw(values)
        return copy


@pytest.mark.parametrize("route", BODIES)
@FUZZ
@given(data=st.data())
def test_a_body_with_something_odd_in_it(filled: Filled, route: str, data: st.DataObject) -> None:
    names = {"{store}": filled.store, "{file}": filled.files[0]}
    text = json.dumps(data.draw(altered(BODIES[route]) | values))
    for name, id in names.items():
        text, route = text.replace(name, id), route.replace(name, id)
    expect_an_answer(filled.http.post(route, content=text))


@FUZZ
@given(route=st.sampled_from([*BODIES, "/v1/files"]), body=st.binary(max_size=50))
def test_a_body_that_is_no_json(filled: Filled, route: str, body: bytes) -> None:
    route = route.replace("{store}", filled.store).replace("{file}", filled.files[0])
    expect_an_answer(filled.http.post(route, content=body))


@settings(FUZZ, max_examples=80)
@given(tree=filters)
def test_a_filter_of_any_kind(filled: Filled, tree: dict[str, Any]) -> None:
    body = {"query": "pump", "filters": tree}
    expect_an_answer(filled.http.post(f"/v1/vector_stores/{filled.store}/search", json=body))


@pytest.mark.parametrize("depth", [20, 200, 480, 5000])
def test_a_filter_of_any_depth(filled: Filled, depth: int) -> None:
    tree = '{"type":"and","filters":[' * depth + "]}" * depth
    for route, body in (
        (f"/v1/vector_stores/{filled.store}/search", '{"query":"pump","filters":%s}'),
        (
            "/v1/chat/completions",
            '{"model":"engram-demo","messages":[{"role":"user","content":"hi"}],"engram":'
            '{"mode":"rag","vector_store_ids":["' + filled.store + '"],"filters":%s}}',
        ),
    ):
        expect_an_answer(filled.http.post(route, content=body % tree))


LISTS = (
    "/v1/files",
    "/v1/vector_stores",
    "/v1/vector_stores/{store}/files",
    "/v1/vector_stores/{store}/file_batches/{batch}/files",
)
odd = st.text(max_size=12) | st.sampled_from(["file-1", "vs_1", "\x00", "-1", "0", "١", "9" * 30])


@FUZZ
@given(
    route=st.sampled_from(LISTS),
    query=st.dictionaries(
        st.sampled_from(["limit", "after", "before", "order", "filter", "purpose", "x"]), odd
    ),
)
def test_a_list_asked_for_oddly(filled: Filled, route: str, query: dict[str, str]) -> None:
    route = route.replace("{store}", filled.store).replace("{batch}", filled.batch)
    expect_an_answer(filled.http.get(route, params=query))


@FUZZ
@given(
    route=st.sampled_from(LISTS[2:]),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 9),
    after=st.none() | st.integers(0, 6),
    before=st.none() | st.integers(0, 6),
)
def test_a_page_is_a_slice_of_the_list(
    filled: Filled, route: str, order: str, limit: int, after: int | None, before: int | None
) -> None:
    route = route.replace("{store}", filled.store).replace("{batch}", filled.batch)
    whole = [f["id"] for f in filled.http.get(route, params={"order": order}).json()["data"]]
    assert sorted(whole) == sorted(filled.files)
    query: dict[str, Any] = {"order": order, "limit": limit}
    query |= {} if after is None else {"after": whole[after]}
    query |= {} if before is None else {"before": whole[before]}
    page = filled.http.get(route, params=query).json()
    between = whole[0 if after is None else after + 1 : before]
    backwards = before is not None and after is None
    expected = between[-limit:] if backwards else between[:limit]
    assert [file["id"] for file in page["data"]] == expected
    assert page["has_more"] is (len(between) > limit)
    assert (page["first_id"], page["last_id"]) == (
        (expected[0], expected[-1]) if expected else (None, None)
    )


@FUZZ
@given(
    purpose=st.sampled_from(["assistants", "batch", "nothing", ""]),
    name=st.text(max_size=30) | st.sampled_from(["../a.md", "a\r\nb: c.md", "", "é.md"]),
    anchor=st.none() | st.sampled_from(["created_at", "now"]),
    seconds=st.none() | odd | st.integers(3_600, 2_592_000).map(str),
    surplus=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=1),
    data=st.binary(max_size=40),
)
def test_a_form_of_any_kind(
    filled: Filled,
    purpose: str,
    name: str,
    anchor: str | None,
    seconds: str | None,
    surplus: dict[str, str],
    data: bytes,
) -> None:
    form = {"purpose": purpose, "expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    fields = {key: value for key, value in (form | surplus).items() if value is not None}
    response = filled.http.post("/v1/files", data=fields, files={"file": (name, data)})
    expect_an_answer(response)
    if response.status_code == 200:
        file = response.json()
        content = filled.http.get(f"/v1/files/{file['id']}/content")
        assert content.content == data
        assert filled.http.delete(f"/v1/files/{file['id']}").status_code == 200


HEADERS = [
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=x; charset=none",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "text/plain",
]
pieces = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"\r\n",
        b'content-disposition: form-data; name="purpose"\r\n\r\nassistants\r\n',
        b'content-disposition: form-data; name="file"; filename="a.md"\r\n\r\ntext\r\n',
        b'content-disposition: form-data; name="file"; filename="\xff\x00.md"\r\n\r\ntext\r\n',
        b"content-disposition: form-data; name=\r\n\r\n",
        b"content-type: \xff\r\n",
        b"purpose=assistants&file=%00",
        b"&=;%",
    ]
)


@settings(FUZZ, max_examples=80)
@given(kind=st.sampled_from(HEADERS), parts=st.lists(pieces | st.binary(max_size=9), max_size=8))
def test_a_form_in_pieces(filled: Filled, kind: str, parts: list[bytes]) -> None:
    headers = {"content-type": kind}
    expect_an_answer(filled.http.post("/v1/files", content=b"".join(parts), headers=headers))


@settings(FUZZ, max_examples=8)
@given(ids=st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=3))
def test_ids_of_any_kind(filled: Filled, ids: list[str]) -> None:
    for path in (
        "files",
        "vector_stores",
        "vector_stores/{}/files",
        "vector_stores/{}/file_batches",
    ):
        url = httpx.URL("/v1/" + "/".join((path.format(_quoted(ids[0])), _quoted(ids[1]))))
        for method in ("GET", "DELETE", "POST"):
            expect_an_answer(filled.http.request(method, url))


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def test_the_store_is_as_it_was(filled: Filled) -> None:
    """No fuzz above took a file away or left one in progress for good."""
    files = f"/v1/vector_stores/{filled.store}/files"
    eventually(
        lambda: (
            [f["status"] for f in filled.http.get(files).json()["data"]]
            == ["completed"] * len(filled.files)
        ),
        within_s=60,
    )
