from __future__ import annotations

from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError, fields, load, to_environ


def test_the_environment_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "engram.yaml"
    file.write_text("engine: {max_model_len: 2048, max_loras: 8}\n")
    settings = load({"ENGRAM_ENGINE__MAX_LORAS": "2"}, file)
    assert settings.engine.max_model_len == 2048
    assert settings.engine.max_loras == 2
    assert settings.server == Settings().server


def test_an_unknown_key_is_named_with_the_nearest_valid_one() -> None:
    with pytest.raises(SettingsError, match=r"'engine.modl'; did you mean 'engine.model'"):
        load({"ENGRAM_ENGINE__MODL": "x"})


def test_a_value_of_the_wrong_type_is_named() -> None:
    with pytest.raises(SettingsError, match=r"server.port.*abc"):
        load({"ENGRAM_SERVER__PORT": "abc"})


@pytest.mark.parametrize("name", ["engram-demo", "123", "yes", "a: b", "null", "[x]"])
def test_child_processes_read_back_what_the_parent_has(name: str) -> None:
    engine = {"served_name": name, "extra_args": {"dtype": "float16", "seed": 7}}
    settings = Settings.model_validate({"engine": engine, "database_url": "postgresql://u@h/d?x=1"})
    assert load(to_environ(settings)) == settings


@pytest.mark.parametrize("name", ["ADMISSION__MAX_RUNNING", "ENGINE__MAX_NUM_SEQS"])
def test_a_gateway_that_could_answer_nobody_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="greater than or equal to 1"):
        load({f"ENGRAM_{name}": "0"})


def test_every_setting_says_what_it_is() -> None:
    assert all(description for _, _, description in fields())
