"""What a model name means: assistants, adapters by every one of their names, the base model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.app import Store, open_store
from serving.directory import Directory
from serving.errors import InvalidRequest, NotFound, UnknownModel
from serving.types import AdapterId, Assistant, Caller, Mode, TenantId, VectorStoreId
from tests.api.conftest import scripted
from tests.tiny_model import write_adapter

ACME = TenantId("acme")
CALLER = Caller(ACME, "key", frozenset())
JOB_MODEL = "ft:engram-demo:acme:legal:abc123"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(scripted(tmp_path / "data"))
    opened.keys.ensure_tenant(ACME)
    for seed in (1, 2):
        folder = write_adapter(tmp_path / str(seed), seed=seed)
        model = JOB_MODEL if seed == 2 else None
        opened.adapters.publish(ACME, "legal", folder, model=model)
    yield opened
    opened.ledger.close()


@pytest.fixture
def directory(store: Store) -> Directory:
    return Directory(store.assistants, store.adapters, store.vector_stores, "engram-demo")


@pytest.mark.parametrize(("model", "version"), [("legal@1", "legal@1"), (JOB_MODEL, "legal@2")])
async def test_an_adapter_is_asked_for_by_its_number_or_its_jobs_name(
    directory: Directory, model: str, version: str
) -> None:
    found = await directory.resolve(CALLER, model)
    assert (found.adapter, found.fixed_mode) == (version, Mode.FINE_TUNED)


async def test_a_bare_name_needs_a_promotion_and_follows_it(
    store: Store, directory: Directory
) -> None:
    with pytest.raises(UnknownModel, match="no version of adapter 'legal' is promoted"):
        await directory.resolve(CALLER, "legal")
    for version in ("legal@1", "legal@2"):
        store.adapters.promote(ACME, version)
        assert (await directory.resolve(CALLER, "legal")).adapter == version


async def test_an_assistant_wins_over_an_adapter_of_its_name(
    store: Store, directory: Directory
) -> None:
    store.adapters.promote(ACME, "legal@1")
    store.assistants.put(Assistant("legal", ACME, "You know the law.", AdapterId("legal")))
    found = await directory.resolve(CALLER, "legal")
    assert (found.instructions, found.adapter, found.fixed_mode) == (
        "You know the law.",
        "legal@1",
        None,
    )
    assert (await directory.resolve(CALLER, "legal:hybrid")).fixed_mode is Mode.HYBRID
    assert (await directory.models(CALLER)).count("legal") == 1


async def test_an_assistant_has_the_versions_that_bare_names_mean_now(
    store: Store, directory: Directory
) -> None:
    shares = {AdapterId("legal"): 0.75, AdapterId("legal@2"): 0.25}
    store.assistants.put(Assistant("desk", ACME, rollout=shares))
    store.adapters.promote(ACME, "legal@1")
    assert (await directory.resolve(CALLER, "desk")).rollout == {"legal@1": 0.75, "legal@2": 0.25}
    store.adapters.promote(ACME, "legal@2")
    assert (await directory.resolve(CALLER, "desk")).rollout == {"legal@2": 1.0}


async def test_an_assistant_whose_adapter_is_gone_is_still_found(
    store: Store, directory: Directory
) -> None:
    store.assistants.put(Assistant("desk", ACME, adapter=AdapterId("nothing")))
    assert (await directory.resolve(CALLER, "desk")).adapter == "nothing"


async def test_every_listed_name_can_be_asked_for_and_no_retired_one_is_listed(
    store: Store, directory: Directory
) -> None:
    store.assistants.put(Assistant("desk", ACME))
    store.adapters.promote(ACME, "legal@2")
    store.adapters.retire(ACME, "legal@1")
    names = await directory.models(CALLER)
    assert names == ["desk", "engram-demo", "legal", "legal@2", JOB_MODEL]
    for name in names:
        await directory.resolve(CALLER, name)


@pytest.mark.parametrize("model", ["nobody", "nobody@1", "ft:nobody", "legal@x", "x" * 201])
async def test_an_unknown_name_is_said_to_be_unknown(directory: Directory, model: str) -> None:
    with pytest.raises(UnknownModel) as refused:
        await directory.resolve(CALLER, model)
    assert refused.value.param == "model"


async def test_a_retired_version_says_how_to_bring_it_back(
    store: Store, directory: Directory
) -> None:
    store.adapters.retire(ACME, "legal@2")
    for model in ("legal@2", JOB_MODEL):
        with pytest.raises(UnknownModel, match="'legal@2' is retired: promote it"):
            await directory.resolve(CALLER, model)


async def test_a_suffix_that_is_no_mode_is_refused(store: Store, directory: Directory) -> None:
    store.assistants.put(Assistant("desk", ACME))
    with pytest.raises(InvalidRequest, match="'fast' is no mode"):
        await directory.resolve(CALLER, "desk:fast")


@pytest.mark.parametrize(
    "part",
    [
        Assistant("desk", ACME, adapter=AdapterId("legal@9")),
        Assistant("desk", ACME, adapter=AdapterId("nothing")),
        Assistant("desk", ACME, rollout={AdapterId("legal@1"): 0.5, AdapterId("legal@9"): 0.5}),
        Assistant("desk", ACME, vector_stores=(VectorStoreId("vs_none"),)),
    ],
)
async def test_an_assistant_of_missing_parts_is_refused(
    directory: Directory, part: Assistant
) -> None:
    with pytest.raises(NotFound):
        await directory.check(part)
