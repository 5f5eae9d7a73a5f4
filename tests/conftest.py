from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serving.generation.vllm_engine import VllmEngine
from serving.settings import EngineSettings
from tests import tiny_model


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.write_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def vllm_engine(tiny_model_folder: Path) -> AsyncIterator[VllmEngine]:
    """vLLM on the tiny model, started once for all tests that use it."""
    settings = EngineSettings(
        model=str(tiny_model_folder),
        max_model_len=tiny_model.CONTEXT,
        max_num_seqs=8,
        max_loras=2,
        max_lora_rank=8,
        kv_cache_gib=0.1,
        tool_call_parser="hermes",
    )
    async with VllmEngine(settings) as engine:
        yield engine
