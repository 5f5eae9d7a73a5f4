from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import pytest

from serving.adapters.registry import Registry
from serving.adapters.validation import WEIGHTS
from serving.errors import AdapterNotReady, Conflict, InvalidRequest, UnknownModel
from serving.types import AdapterId
from tests.tiny_model import write_adapter

LEGAL = AdapterId("legal@1")


def test_an_adapter_copied_in_while_serving_is_found_without_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "adapters")
    assert registry.list() == ()
    with pytest.raises(UnknownModel, match="'legal@1' does not exist"):
        registry.get(LEGAL)
    folder = write_adapter(tmp_path / "adapters" / "legal@1")
    assert registry.get(LEGAL).path == folder
    assert [adapter.id for adapter in registry.list()] == ["legal@1"]


def test_a_half_copied_adapter_becomes_ready_when_the_copy_ends(tmp_path: Path) -> None:
    source = write_adapter(tmp_path / "source")
    registry = Registry(tmp_path)
    (tmp_path / "legal@1").mkdir()
    shutil.copy(source / "adapter_config.json", tmp_path / "legal@1")
    (tmp_path / "legal@1" / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:500])
    with pytest.raises(AdapterNotReady, match="still being copied"):
        registry.get(LEGAL)
    shutil.copy(source / WEIGHTS, tmp_path / "legal@1")
    assert registry.get(LEGAL).id == LEGAL


def test_changed_weights_are_refused_and_the_message_says_to_publish_a_version(
    tmp_path: Path,
) -> None:
    folder = write_adapter(tmp_path / "legal@1", seed=1)
    registry = Registry(tmp_path)
    registry.get(LEGAL)
    original = (folder / WEIGHTS).read_bytes()
    shutil.copy(write_adapter(tmp_path / "legal@2", seed=2) / WEIGHTS, folder)
    for _ in range(2):
        with pytest.raises(Conflict, match="publish them as 'legal@2'"):
            registry.get(LEGAL)
    (folder / WEIGHTS).write_bytes(original)
    assert registry.get(LEGAL).id == LEGAL


def test_a_touched_adapter_with_the_same_weights_is_the_same(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "legal@1")
    registry = Registry(tmp_path)
    digest = registry.sha256(LEGAL)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    assert registry.sha256(LEGAL) == digest
    assert digest == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def test_a_card_that_states_the_hash_is_believed_across_restarts(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "legal@1", seed=1)
    digest = Registry(tmp_path).sha256(LEGAL)
    (folder / "card.json").write_text(json.dumps({"sha256": digest}))
    shutil.copy(write_adapter(tmp_path / "other", seed=2) / WEIGHTS, folder)
    with pytest.raises(Conflict):
        Registry(tmp_path).get(LEGAL)


def test_the_list_is_in_order_of_name_and_version_and_skips_what_cannot_be_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("legal@10", "legal@9", "it@1"):
        write_adapter(tmp_path / name)
    write_adapter(tmp_path / "broken@1", use_dora=True)
    (tmp_path / "notes").mkdir()
    registry = Registry(tmp_path)
    with caplog.at_level(logging.WARNING, "engram.adapters"):
        for _ in range(3):
            assert [adapter.id for adapter in registry.list()] == ["it@1", "legal@9", "legal@10"]
    assert len(caplog.messages) == 2
    assert any("broken@1 is not served: DoRA" in message for message in caplog.messages)


def test_the_latest_version_is_the_highest_usable_number(tmp_path: Path) -> None:
    for version in (9, 10):
        write_adapter(tmp_path / f"legal@{version}")
    write_adapter(tmp_path / "legal@11", use_dora=True)
    registry = Registry(tmp_path)
    assert registry.latest("legal").id == "legal@10"
    with pytest.raises(UnknownModel, match="'it' has no usable version"):
        registry.latest("it")


def test_an_adapter_over_the_engines_rank_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path / "legal@1", rank=16)
    assert Registry(tmp_path, max_rank=16).facts(LEGAL).rank == 16
    with pytest.raises(InvalidRequest, match="rank 16 is over"):
        Registry(tmp_path, max_rank=8).get(LEGAL)


def test_samples_and_card_come_with_an_adapter_if_its_makers_gave_them(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "legal@1")
    registry = Registry(tmp_path)
    assert registry.samples(LEGAL) == ()
    assert registry.card(LEGAL) == {}
    (folder / "samples.jsonl").write_text('{"text": "May I sue?"}\n\n{"text": "Who is liable?"}\n')
    (folder / "card.json").write_text('{"about": "contracts"}')
    assert registry.samples(LEGAL) == ("May I sue?", "Who is liable?")
    assert registry.card(LEGAL) == {"about": "contracts"}


def test_malformed_samples_say_what_they_should_be(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "legal@1")
    (folder / "samples.jsonl").write_text('{"prompt": "May I sue?"}\n')
    with pytest.raises(InvalidRequest, match=r"samples\.jsonl needs one"):
        Registry(tmp_path).samples(LEGAL)


@pytest.mark.parametrize("id", ["../legal@1", "legal", "legal@x", "/etc@1"])
def test_a_name_that_is_no_adapter_reads_no_folder(id: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        Registry(tmp_path).get(AdapterId(id))
