from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everything as `make up` starts it: Ray, HAProxy, vLLM with the demo model, MiniLM, FAISS."""
    busy = {
        "ENGRAM_FINETUNE__IDLE_ONLY": "false"
    }  # other work must not keep a training from ending
    with running(tmp_path_factory.mktemp("engram"), busy) as server:
        yield server
