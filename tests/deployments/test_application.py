"""What the replicas ask of Ray."""

from __future__ import annotations

import pytest

from serving.deployments.application import _retrievers
from serving.settings import RetrievalSettings, Settings


@pytest.mark.parametrize("gpus", [0.0, 0.1])
def test_every_retriever_asks_for_its_part_of_a_gpu(gpus: float) -> None:
    settings = Settings(retrieval=RetrievalSettings(gpus=gpus, shards=2))
    for bound in _retrievers(settings):
        assert bound._bound_deployment.ray_actor_options["num_gpus"] == gpus
