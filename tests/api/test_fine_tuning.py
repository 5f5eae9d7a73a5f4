"""`/v1/fine_tuning/jobs` through OpenAI's SDK: what is taken, what is refused and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.api.conftest import Gateway, scripted, serve
from tests.finetune.files import chats, jsonl


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose workers are elsewhere, so that every job stays where it was put."""
    settings = scripted(tmp_path_factory.mktemp("data"), finetune={"max_active": 30})
    with serve(settings) as gateway:
        yield gateway


@pytest.fixture
def client(idle: Gateway) -> OpenAI:
    return idle.client


@pytest.fixture
def file(client: OpenAI) -> str:
    return upload(client)


def upload(client: OpenAI, purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("a.jsonl", jsonl(*chats())), purpose=purpose).id


def refused(idle: Gateway, **body: Any) -> tuple[int, str | None, str]:
    """Status, parameter and message of what a job with these fields is answered."""
    file = upload(idle.client)
    whole = {"model": "engram-demo", "training_file": file} | body
    response = idle.http.post("/v1/fine_tuning/jobs", json=whole)
    error = response.json()["error"]
    return response.status_code, error["param"], error["message"]


def test_a_job_is_created_with_all_that_was_asked_for(client: OpenAI, file: str) -> None:
    check = upload(client)
    job = client.fine_tuning.jobs.create(
        model="engram-demo",
        training_file=file,
        validation_file=check,
        suffix="house-style",
        seed=7,
        metadata={"team": "it"},
        method={
            "type": "dpo",
            "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.2, "batch_size": "auto"}},
        },
    )
    assert job.object == "fine_tuning.job" and job.id.startswith("ftjob-")
    assert (job.status, job.model, job.seed) == ("validating_files", "engram-demo", 7)
    assert (job.training_file, job.validation_file) == (file, check)
    assert (job.organization_id, job.metadata) == ("acme", {"team": "it"})
    assert job.method is not None and job.method.dpo is not None
    shown = job.method.dpo.hyperparameters
    assert shown is not None
    assert (shown.n_epochs, shown.beta, shown.batch_size) == (2, 0.2, "auto")
    assert (job.fine_tuned_model, job.finished_at, job.error) == (None, None, None)
    assert client.fine_tuning.jobs.retrieve(job.id) == job


def test_the_old_place_of_hyperparameters_is_read_too(client: OpenAI, file: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="engram-demo", training_file=file, hyperparameters={"n_epochs": 4}
    )
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (4, "auto")
    assert job.method is not None and job.method.type == "supervised"
    assert 0 <= job.seed < 2**31


def test_pause_resume_and_cancel(client: OpenAI, file: str) -> None:
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="engram-demo", training_file=file)
    with pytest.raises(openai.BadRequestError, match="it is validating_files, not queued or"):
        jobs.pause(job.id)
    assert jobs.cancel(job.id).status == "cancelled"
    assert jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="it is cancelled, not paused"):
        jobs.resume(job.id)
    assert [event.message for event in jobs.list_events(job.id)] == [
        "Fine-tuning job cancelled",
        f"Validating training file: {file}",
        f"Created fine-tuning job: {job.id}",
    ]
    assert list(jobs.checkpoints.list(job.id)) == []


def test_lists_go_on_by_themselves_and_are_filtered(client: OpenAI, file: str) -> None:
    jobs = client.fine_tuning.jobs
    made = [
        jobs.create(model="engram-demo", training_file=file, metadata={"n": str(n)}).id
        for n in range(5)
    ]
    assert {*made} <= {job.id for job in jobs.list(limit=2)}
    assert [job.id for job in jobs.list(metadata={"n": "3"})] == [made[3]]
    without = jobs.create(model="engram-demo", training_file=file).id
    assert without in [job.id for job in jobs.list(extra_query={"metadata": "null"})]
    assert made[0] not in [job.id for job in jobs.list(extra_query={"metadata": "null"})]
    for job_id in [*made, without]:
        jobs.cancel(job_id)


def test_what_another_tenant_has_does_not_exist(idle: Gateway, client: OpenAI, file: str) -> None:
    job = client.fine_tuning.jobs.create(model="engram-demo", training_file=file)
    path = f"/v1/fine_tuning/jobs/{job.id}"
    for part in ("", "/events", "/checkpoints"):
        assert idle.rival.get(path + part).status_code == 404
    for verb in ("cancel", "pause", "resume"):
        assert idle.rival.post(f"{path}/{verb}").status_code == 404
    body = {"model": "engram-demo", "training_file": file}
    stolen = idle.rival.post("/v1/fine_tuning/jobs", json=body)
    assert (stolen.status_code, stolen.json()["error"]["param"]) == (404, "training_file")
    assert idle.rival.get("/v1/fine_tuning/jobs").json()["data"] == []


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-9"}, 404, "model", "the model 'gpt-9' cannot be fine-tuned: use 'engram-demo'"),
    ({"training_file": "file-0"}, 404, "training_file", "No such file: 'file-0'."),
    ({"validation_file": "file-0"}, 404, "validation_file", "No such file: 'file-0'."),
    ({"training_file": None}, 400, "training_file", "'training_file': Input should be a valid"),
    ({"suffix": "a b"}, 400, "suffix", "'suffix': String should match pattern"),
    (
        {"hyperparameters": {"n_epochs": True}},
        400,
        "hyperparameters.n_epochs",
        "'hyperparameters.n_epochs': must be 'auto' or a whole number between 1 and 50",
    ),
    (
        {"hyperparameters": {"batch_size": 10**30}},
        400,
        "hyperparameters.batch_size",
        "'hyperparameters.batch_size': must be 'auto' or a whole number between 1 and 256",
    ),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": [1]}}}},
        400,
        "method.dpo.hyperparameters.beta",
        "'method.dpo.hyperparameters.beta': must be 'auto' or a number above 0, up to 2",
    ),
    ({"suffix": "--"}, 400, "suffix", "'suffix': String should match pattern"),
    ({"suffix": ""}, 400, "suffix", "'suffix': String should match pattern"),
    ({"suffix": "engram-demo"}, 400, "suffix", "'suffix' is the base model's name"),
    ({"suffix": "a" * 65}, 400, "suffix", "'suffix': String should have at most 64 characters"),
    ({"seed": -1}, 400, "seed", "'seed': Input should be greater than or equal to 0"),
    (
        {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
        400,
        "integrations",
        "integrations are not supported",
    ),
    (
        {"method": {"type": "reinforcement"}},
        400,
        "method.type",
        "'reinforcement' is not supported; use 'supervised' or 'dpo'",
    ),
    (
        {"method": {"type": "supervised", "dpo": {}}},
        400,
        "method",
        "'dpo' does not go with the type 'supervised'",
    ),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 3}}}},
        400,
        "method.dpo.hyperparameters.beta",
        "must be 'auto' or a number above 0, up to 2",
    ),
    (
        {"hyperparameters": {"n_epochs": 0}},
        400,
        "hyperparameters.n_epochs",
        "must be 'auto' or a whole number between 1 and 50",
    ),
    ({"hyperparameters": {"momentum": 1}}, 400, "hyperparameters.momentum", "unknown field"),
    (
        {"hyperparameters": {}, "method": {"type": "dpo"}},
        400,
        None,
        "send hyperparameters in 'method' alone",
    ),
    ({"metadata": {"a": 1}}, 400, "metadata.a", "valid string"),
    ({"learning_rate": 1}, 400, "learning_rate", "unknown field 'learning_rate'"),
]


@pytest.mark.parametrize(("body", "status", "param", "message"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(
    idle: Gateway, body: dict[str, Any], status: int, param: str | None, message: str
) -> None:
    found = refused(idle, **body)
    assert found[:2] == (status, param), found
    assert message in found[2]


def test_a_file_for_another_purpose_is_refused(idle: Gateway, client: OpenAI) -> None:
    status, param, message = refused(idle, training_file=upload(client, "assistants"))
    assert (status, param) == (400, "training_file")
    assert "was uploaded for the purpose 'assistants'; upload it for 'fine-tune'" in message


@pytest.mark.parametrize("query", ["metadata=1", "metadata[a=1", "metadata=null&metadata[a]=1"])
def test_a_malformed_filter_is_refused(idle: Gateway, query: str) -> None:
    response = idle.http.get(f"/v1/fine_tuning/jobs?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "metadata")


def test_jobs_without_number_are_not_taken(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = scripted(tmp_path_factory.mktemp("data"), finetune={"max_active": 1})
    with serve(settings) as gateway:
        body = {"model": "engram-demo", "training_file": upload(gateway.client)}
        gateway.http.post("/v1/fine_tuning/jobs", json=body).raise_for_status()
        second = gateway.http.post("/v1/fine_tuning/jobs", json=body)
        assert (second.status_code, second.headers["retry-after"]) == (429, "60")


def test_where_nothing_is_trained_the_refusal_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = scripted(tmp_path_factory.mktemp("data"), server={"finetune_workers": 0})
    with serve(settings) as gateway:
        assert "`server.finetune_workers` is 0" in refused(gateway)[2]
