from __future__ import annotations

import json
import shutil
from pathlib import Path

from serving.adapters.base_model import BaseModel, fingerprint, model_folder
from serving.settings import EngineSettings
from tests import tiny_model


def test_a_model_is_known_by_its_weights_not_by_its_folder(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    (copy / "config.json").write_text(json.dumps({"edited": True}))
    assert fingerprint(copy) == fingerprint(tiny_model_folder)
    other = tiny_model.write_model(tmp_path / "other", seed=1)  # of the same shape
    assert fingerprint(other) != fingerprint(tiny_model_folder)
    assert fingerprint(tmp_path) is None


def test_the_demo_models_shape_and_fingerprint_are_known_without_an_engine() -> None:
    base = BaseModel("engram-demo", EngineSettings().model)
    assert base.shape is not None and base.shape.layers == 6
    assert base.shape.features["down_proj"] == (512, 192)
    assert base.fingerprint == fingerprint(Path(EngineSettings().model))


def test_a_model_that_is_not_here_yet_is_known_as_soon_as_it_is(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    base = BaseModel("tiny", str(folder))
    assert (base.shape, base.fingerprint) == (None, None)
    shutil.copytree(tiny_model_folder, folder)
    assert base.shape is not None and base.shape.layers == tiny_model.LAYERS


def test_a_model_of_experts_has_no_single_shape(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_experts": 8}))
    assert BaseModel("tiny", str(folder)).shape is None


def test_a_name_that_nobody_downloaded_has_no_folder() -> None:
    assert model_folder("nobody/has-this-model") is None
    assert model_folder("not a name") is None
    assert model_folder("/nowhere") is None
