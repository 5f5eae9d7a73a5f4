"""Files, vector stores, models, embeddings and admin through the `openai` SDK and HTTP."""

from __future__ import annotations

import openai
import pytest

from tests.api.conftest import Gateway
from tests.running import eventually


def test_models_list_assistants_and_the_base_model(gateway: Gateway) -> None:
    names = {model.id for model in gateway.client.models.list()}
    assert names >= {"helpdesk", "engram-demo"}
    assert gateway.client.models.retrieve("helpdesk").id == "helpdesk"
    with pytest.raises(openai.NotFoundError):
        gateway.client.models.retrieve("nobody")


def test_a_file_lives_from_upload_to_delete(gateway: Gateway) -> None:
    client = gateway.client
    store = client.vector_stores.create(name="lives")
    text = b"# Pumps\n\nThe pump of Basin Nine runs at 340 litres per hour.\n"
    file = client.files.create(file=("pumps.md", text), purpose="assistants")
    assert client.files.content(file.id).read() == text
    attached = client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, attributes={"team": "water"}, poll_interval_ms=20
    )
    assert attached.status == "completed"
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1
    [hit] = client.vector_stores.search(store.id, query="pump of Basin Nine").data
    assert "340 litres" in hit.content[0].text
    assert hit.attributes == {"team": "water"}
    client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    assert client.vector_stores.search(store.id, query="pump of Basin Nine").data == []
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_deleted_file_is_gone_from_every_store(gateway: Gateway) -> None:
    client = gateway.client
    store = client.vector_stores.create(name="gone")
    file = client.files.create(
        file=("valves.md", b"# Valves\n\nValve Six is made of brass.\n"), purpose="assistants"
    )
    client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, poll_interval_ms=20
    )
    assert client.vector_stores.search(store.id, query="Valve Six brass").data
    client.files.delete(file.id)
    assert client.vector_stores.search(store.id, query="Valve Six brass").data == []


@pytest.mark.parametrize(
    ("name", "data"), [("a.exe", b"MZ\x00"), ("empty.md", b""), ("broken.pdf", b"%PDF-1.4 no")]
)
def test_a_file_that_cannot_be_read_fails_with_a_reason(
    gateway: Gateway, name: str, data: bytes
) -> None:
    client = gateway.client
    store = client.vector_stores.create(name="bad")
    file = client.files.create(file=(name, data), purpose="assistants")
    attached = client.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, poll_interval_ms=20
    )
    assert attached.status == "failed"
    assert attached.last_error is not None and name in attached.last_error.message


def test_an_upload_over_the_limit_is_refused(gateway: Gateway) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        gateway.client.files.create(file=("big.md", b"x" * 200_000), purpose="assistants")
    assert refused.value.status_code == 413


def test_embeddings_are_unit_vectors_in_both_encodings(gateway: Gateway) -> None:
    create = gateway.client.embeddings.create
    floats = create(model="all-MiniLM-L6-v2", input=["a b", "c"], encoding_format="float")
    packed = create(model="all-MiniLM-L6-v2", input=["a b", "c"])
    assert [d.index for d in floats.data] == [0, 1]
    assert floats.data[0].embedding == pytest.approx(packed.data[0].embedding, abs=1e-6)
    assert sum(x * x for x in floats.data[0].embedding) == pytest.approx(1, abs=1e-3)
    with pytest.raises(openai.BadRequestError):
        create(model="all-MiniLM-L6-v2", input=[])
    with pytest.raises(openai.NotFoundError):
        create(model="other", input="x")


def test_an_assistant_set_by_the_operator_answers_at_once(gateway: Gateway) -> None:
    body = {"instructions": "Be brief.", "vector_stores": [gateway.store]}
    put = gateway.http.put("/admin/assistants/desk", json=body)
    assert put.status_code == 200, put.text
    assert "desk" in {model.id for model in gateway.client.models.list()}
    typo = gateway.http.put("/admin/assistants/desk", json={"instruction": "x"})
    assert typo.status_code == 400
    assert typo.json()["error"]["param"] == "instruction"
    for missing in ({"adapter": "none@1"}, {"vector_stores": ["vs_none"]}):
        assert gateway.http.put("/admin/assistants/desk", json=missing).status_code == 404
    assert gateway.http.delete("/admin/assistants/desk").status_code == 200


def test_usage_sums_up_the_tenants_own_requests(gateway: Gateway) -> None:
    gateway.client.chat.completions.create(
        model="engram-demo", messages=[{"role": "user", "content": "hi"}]
    )
    eventually(lambda: gateway.http.get("/admin/usage").json()["requests"] >= 1, within_s=20)
    assert gateway.rival.get("/admin/usage").json()["requests"] == 0


def test_tenants_see_nothing_of_each_other(gateway: Gateway) -> None:
    theirs = gateway.rival
    assert theirs.get(f"/v1/vector_stores/{gateway.store}").status_code == 404
    assert theirs.get("/v1/vector_stores").json()["data"] == []
    assert [m["id"] for m in theirs.get("/v1/models").json()["data"]] == ["engram-demo"]
