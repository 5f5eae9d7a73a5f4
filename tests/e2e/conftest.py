from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Everything as `make up` starts it: Ray, HAProxy, vLLM with the demo model, MiniLM, FAISS."""
    with running(tmp_path_factory.mktemp("engram"), {}) as server:
        yield server
