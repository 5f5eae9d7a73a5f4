"""`/admin/adapters`: upload to deletion over HTTP, and what is refused leaves nothing."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.adapters.base_model import fingerprint
from serving.app import open_store
from serving.settings import Settings
from serving.types import TenantId
from tests.adapters.malformed import (
    ARCHIVES,
    FOLDERS,
    Change,
    carded,
    folder_of,
    member,
    sound,
    tar,
    with_member,
)
from tests.api.conftest import Gateway, scripted
from tests.running import eventually
from tests.tiny_model import write_adapter


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Settings:
    """The scripted engine stands in for a model whose weights are there to be compared with."""
    engine = {"kind": "scripted", "model": str(tiny_model_folder)}
    data = tmp_path_factory.mktemp("data")
    return scripted(data, engine=engine, registry={"max_bytes": 1_000_000})


def upload(http: httpx.Client, name: str, files: list[tuple[str, bytes]], **more: str) -> Any:
    form = [("file", (filename, content)) for filename, content in files]
    return http.post("/admin/adapters", data={"name": name, **more}, files=form)


def add(http: httpx.Client, name: str, folder: Path, **more: str) -> dict[str, Any]:
    answer = upload(http, name, contents(folder), **more)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def say(gateway: Gateway, model: str) -> str:
    answer = gateway.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}]
    )
    return answer.choices[0].message.content or ""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    made = iter(range(1_000))
    return lambda **config: write_adapter(tmp_path / f"made-{next(made)}", **config)


@pytest.fixture
def nothing_left(settings: Settings) -> Iterator[None]:
    """No row, no object and no file more than before."""
    before = state(settings)
    yield
    assert state(settings) == before


def state(settings: Settings) -> tuple[object, ...]:
    store = open_store(settings)
    try:
        rows = store.adapters.versions.numbers(TenantId("acme"))
    finally:
        store.ledger.close()
    cached = [path.name for path in settings.adapter_cache.glob("*") if path.name != ".locks"]
    objects = [path.name for path in settings.adapter_objects.rglob("*") if path.is_file()]
    return rows, sorted(cached), sorted(objects)


# What is refused


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("change", "reason"), FOLDERS.values(), ids=list(FOLDERS))
def test_a_malformed_adapter_is_refused_with_its_own_reason(
    gateway: Gateway, tmp_path: Path, change: Change, reason: str
) -> None:
    answer = upload(gateway.http, "bad", contents(folder_of(change, tmp_path / "bad")))
    refusal(answer, 413 if "limit of" in answer.text else 400, reason)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("pack", "status", "reason"), ARCHIVES.values(), ids=list(ARCHIVES))
def test_a_malicious_archive_is_refused_with_its_own_reason(
    gateway: Gateway, tmp_path: Path, pack: Callable[[Path], bytes], status: int, reason: str
) -> None:
    answer = upload(gateway.http, "bad", [("bad.tar.gz", pack(tmp_path / "bad"))])
    refusal(answer, status, reason)
    assert not list(tmp_path.parent.rglob("evil"))


FORMS: dict[str, tuple[dict[str, str], list[str], str]] = {
    "no name": ({}, ["card.json"], "name"),
    "bad name": ({"name": "a/b"}, ["card.json"], "name"),
    "base's name": ({"name": "engram-demo"}, ["card.json"], "name"),
    "no file": ({"name": "x"}, [], "file"),
    "two archives": ({"name": "x"}, ["a.tar", "b.tar"], "file"),
    "a file twice": ({"name": "x"}, ["card.json", "card.json"], "file"),
    "a pickle": ({"name": "x"}, ["adapter_model.bin"], "file"),
    "unknown field": ({"name": "x", "nome": "y"}, ["card.json"], "nome"),
    "promote maybe": ({"name": "x", "promote": "maybe"}, ["card.json"], "promote"),
}


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("fields", "names", "param"), FORMS.values(), ids=list(FORMS))
def test_a_form_that_does_not_fit_names_its_field(
    gateway: Gateway, fields: dict[str, str], names: list[str], param: str
) -> None:
    files = [("file", (name, b"{}")) for name in names] or [("other", ("x", b""))]
    answer = gateway.http.post("/admin/adapters", data=fields, files=files)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in (param, "other")


@pytest.mark.usefixtures("nothing_left")
def test_an_upload_over_the_limit_is_refused_while_it_comes_in(gateway: Gateway) -> None:
    answer = upload(gateway.http, "big", [("x.tar", b"x" * 3_000_000)])
    assert answer.status_code == 413


def refusal(answer: httpx.Response, status: int, reason: str) -> None:
    assert answer.status_code == status, answer.text
    assert reason in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] in ("adapter", "file")


# What is accepted


def test_an_adapters_life_from_upload_to_deletion(
    gateway: Gateway, make: Callable[..., Path]
) -> None:
    http = gateway.http
    first = add(http, "life", make(seed=1))
    assert (first["id"], first["state"], first["rank"]) == ("life@1", "staged", 8)
    assert say(gateway, "life@1").startswith("acme/life@1 says")
    with pytest.raises(openai.NotFoundError, match="no version of adapter 'life' is promoted"):
        say(gateway, "life")
    second = add(http, "life", make(seed=2), promote="true")
    assert (second["id"], second["state"]) == ("life@2", "promoted")
    assert say(gateway, "life").startswith("acme/life@2 says")
    assert {"life", "life@1", "life@2"} <= {model.id for model in gateway.client.models.list()}
    assert http.post("/admin/adapters/life@1/promote").json()["state"] == "promoted"
    assert http.get("/admin/adapters/life@2").json()["state"] == "staged"
    assert http.post("/admin/adapters/life/rollback").json()["id"] == "life@2"
    early = http.delete("/admin/adapters/life@1")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "conflict")
    assert http.post("/admin/adapters/life@1/retire").json()["state"] == "retired"
    with pytest.raises(openai.NotFoundError, match="'life@1' is retired"):
        say(gateway, "life@1")
    assert "life@1" not in {model.id for model in gateway.client.models.list()}
    gone = http.delete("/admin/adapters/life@1").json()
    assert gone == {"id": "life@1", "object": "adapter.deleted", "deleted": True}
    assert http.get("/admin/adapters/life@1").status_code == 404


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_an_archive_is_taken_with_or_without_a_folder_in_it(
    gateway: Gateway, tmp_path: Path, suffix: str
) -> None:
    files = sound(tmp_path / "made")
    for info, _ in files[:1]:
        info.name = f"./adapter/{info.name}"
    extras = [
        member("adapter", kind=tarfile.DIRTYPE),
        member("adapter/._adapter_config.json", b"macOS"),
        member("__MACOSX/adapter_config.json", b"macOS"),
        member(".DS_Store", b"macOS"),
        member("README.md", b"about"),
    ]
    data = tar(*extras, *files)
    packed = data if suffix == "tar" else gzip.compress(data)
    answer = upload(gateway.http, "packed", [(f"a.{suffix}", packed)])
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "packed@1"  # the same weights are the same version
    assert set(answer.json()["files"]) == {"adapter_config.json", "adapter_model.safetensors"}


def test_an_archive_in_the_old_format_is_taken(gateway: Gateway, tmp_path: Path) -> None:
    data = tar(*sound(tmp_path / "made"), format=tarfile.GNU_FORMAT)
    assert upload(gateway.http, "old", [("a.tar", data)]).status_code == 200


def test_a_card_of_the_served_base_is_kept(
    gateway: Gateway, tmp_path: Path, tiny_model_folder: Path
) -> None:
    digest = fingerprint(tiny_model_folder)
    card = carded(base_model="whatever", base_fingerprint=digest, metrics={"loss": 0.25})
    body = add(gateway.http, "carded", folder_of(card, tmp_path / "carded"))
    assert (body["base_model"], body["base_fingerprint"]) == ("whatever", digest)
    assert body["metrics"] == {"loss": 0.25}


def test_uploads_of_one_name_at_once_get_different_numbers(
    gateway: Gateway, make: Callable[..., Path]
) -> None:
    folders = [make(seed=seed) for seed in range(10, 14)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda folder: add(gateway.http, "race", folder), folders))
    assert sorted(version["version"] for version in made) == [1, 2, 3, 4]


def test_lists_are_pages_and_can_be_narrowed(gateway: Gateway, make: Callable[..., Path]) -> None:
    http = gateway.http
    for seed in (21, 22, 23):
        add(http, "paged", make(seed=seed))
    query = {"name": "paged", "limit": "2", "order": "asc"}
    first = http.get("/admin/adapters", params=query).json()
    rest = http.get("/admin/adapters", params=query | {"after": first["last_id"]}).json()
    ids = [version["id"] for version in (*first["data"], *rest["data"])]
    assert sorted(ids) == ["paged@1", "paged@2", "paged@3"]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    http.post("/admin/adapters/paged@2/promote")
    promoted = http.get("/admin/adapters", params={"name": "paged", "state": "promoted"}).json()
    assert [version["id"] for version in promoted["data"]] == ["paged@2"]
    for wrong in ({"state": "gone"}, {"limit": "0"}, {"colour": "red"}):
        assert http.get("/admin/adapters", params=wrong).status_code == 400


def test_an_assistant_follows_a_name_and_keeps_its_versions_from_retiring(
    gateway: Gateway, make: Callable[..., Path]
) -> None:
    http = gateway.http
    add(http, "desk", make(seed=31), promote="true")
    put = http.put("/admin/assistants/follower", json={"adapter": "desk"})
    assert put.status_code == 200, put.text
    assert say(gateway, "follower:fine_tuned").startswith("acme/desk@1 says")
    add(http, "desk", make(seed=32), promote="true")
    eventually(
        lambda: say(gateway, "follower:fine_tuned").startswith("acme/desk@2 says"), within_s=3
    )
    used = http.post("/admin/adapters/desk@2/retire")
    assert (used.status_code, used.json()["error"]["code"]) == (409, "conflict")
    assert "used by the assistant 'follower'" in used.json()["error"]["message"]
    missing = {"rollout": {"desk@2": 0.5, "desk@9": 0.5}}
    assert http.put("/admin/assistants/follower", json=missing).status_code == 404
    assert http.delete("/admin/assistants/follower").status_code == 200
    assert http.post("/admin/adapters/desk@2/retire").status_code == 200


def test_a_pin_is_set_and_taken(gateway: Gateway, make: Callable[..., Path]) -> None:
    add(gateway.http, "pinned", make(seed=41))
    assert gateway.http.post("/admin/adapters/pinned@1/pin").json()["pinned"] is True
    assert gateway.http.delete("/admin/adapters/pinned@1/pin").json()["pinned"] is False
    bare = gateway.http.post("/admin/adapters/pinned/pin")
    assert "say which version, as in 'pinned@1'" in bare.json()["error"]["message"]


def test_another_tenant_neither_sees_nor_moves_it(
    gateway: Gateway, make: Callable[..., Path]
) -> None:
    add(gateway.http, "ours", make(seed=51), promote="true")
    for method, path in (
        ("GET", "ours@1"),
        ("GET", "ours"),
        ("DELETE", "ours@1"),
        ("POST", "ours@1/promote"),
        ("POST", "ours@1/retire"),
        ("POST", "ours/rollback"),
        ("POST", "ours@1/pin"),
    ):
        assert gateway.rival.request(method, f"/admin/adapters/{path}").status_code == 404
    assert gateway.rival.get("/admin/adapters").json()["data"] == []
    assert add(gateway.rival, "ours", make(seed=51))["id"] == "ours@1"


def test_a_key_without_the_scope_may_not(settings: Settings, gateway: Gateway) -> None:
    store = open_store(settings)
    key = store.keys.create(TenantId("acme"), "app", ("inference",))
    store.ledger.close()
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(f"{gateway.url}/admin/adapters", headers=headers).status_code == 403


def test_a_stranger_beside_the_files_is_passed_over(gateway: Gateway, tmp_path: Path) -> None:
    """The table's archives are refused for what was added to them, not for what they share."""
    data = with_member("notes.txt", b"x")(tmp_path / "sound")
    assert upload(gateway.http, "sound", [("a.tar", data)]).status_code == 200
