from __future__ import annotations

from pathlib import Path

import pytest

from serving.settings import ROOT, load


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy/config").glob("*.yaml")), ids=lambda f: f.name
)
def test_a_committed_configuration_is_valid(file: Path) -> None:
    assert load({}, file) != load({})
