"""The cluster as a user meets it: real Ray Serve and HAProxy, with the scripted engine."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from serving.app import open_store
from serving.deployments import cluster
from serving.deployments import run as runs
from serving.deployments.progress import PREFIX, READY
from serving.settings import load
from serving.types import TenantId
from tests.running import Server, engram, environment, eventually, free_port, running

QUICK = {
    "ENGRAM_ENGINE__KIND": "scripted",
    "ENGRAM_ENGINE__EXTRA_ARGS": "{load_s: 3.0}",  # of an adapter; time enough to be killed in
    "ENGRAM_RETRIEVAL__EMBEDDER": "hashing",
}
QUESTION = [{"role": "user", "content": "Which company repairs broken laptops?"}]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("engram"), QUICK) as server:
        yield server


def ask(server: Server, model: str = "helpdesk:rag") -> httpx.Response:
    with server.client() as client:
        return client.post("/chat/completions", json={"model": model, "messages": QUESTION})


def is_answering(server: Server) -> bool:
    try:
        return ask(server).is_success
    except httpx.HTTPError:
        return False


def test_an_answer_comes_from_the_retriever_replica_with_its_source(server: Server) -> None:
    answer = ask(server).raise_for_status().json()
    assert "laptops.md" in [source["filename"] for source in answer["engram"]["sources"]]


def test_tokens_stream_through_haproxy(server: Server) -> None:
    body = {"model": "helpdesk:rag", "messages": QUESTION, "stream": True}
    with server.client() as client, client.stream("POST", "/chat/completions", json=body) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 5
    if sys.platform == "linux":
        names = {process.name() for process in runs.processes(server.run)}
        assert "haproxy" in names


def test_haproxy_listens_on_loopback_alone(server: Server) -> None:
    """Its statistics and metrics too, which Ray's template binds to every interface."""
    proxies = [p for p in runs.processes(server.run) if p.name() == "haproxy"]
    listening = [
        connection.laddr
        for proxy in proxies
        for connection in proxy.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len({address.port for address in listening}) == 3  # the API, statistics, metrics


def test_an_error_in_the_retriever_replica_arrives_as_it_was_raised(server: Server) -> None:
    with server.client() as client:
        [store] = client.get("/vector_stores").json()["data"]
        refused = client.post(
            f"/vector_stores/{store['id']}/search",
            json={"query": "laptop", "filters": {"type": "like", "key": "path", "value": "it"}},
        )
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_up_again_returns_at_once_with_the_same_key(server: Server) -> None:
    members = {process.pid for process in runs.processes(server.run)}
    again = engram("up", environ=server.environ)
    assert again.returncode == 0
    assert "already up" in again.stdout
    assert f"export OPENAI_API_KEY={server.api_key}" in again.stdout.splitlines()
    assert {process.pid for process in runs.processes(server.run)} >= members


def test_other_settings_are_refused_by_name(server: Server) -> None:
    other = engram("up", environ=server.environ | {"ENGRAM_ADMISSION__MAX_RUNNING": "7"})
    assert other.returncode == 1
    assert "ENGRAM_ADMISSION__MAX_RUNNING" in other.stderr


def test_status_names_the_address_and_the_replicas(server: Server) -> None:
    status = engram("status", environ=server.environ)
    assert status.returncode == 0
    assert server.base_url.removesuffix("/v1") in status.stdout
    for replicas in ("gateway 1", "ingest 1", "retriever 1"):
        assert replicas in status.stdout


def test_a_changed_file_replaces_its_earlier_version(server: Server, tmp_path: Path) -> None:
    def ingest() -> str:
        done = engram(
            *("ingest", str(tmp_path), "--store", "notes", "--url", server.base_url),
            *("--api-key", server.api_key),
            environ=server.environ,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    note = tmp_path / "parking.md"
    note.write_text("# Parking\n\nThe blue garage has 40 places.\n")
    (tmp_path / "ignored.bin").write_bytes(b"\0")
    assert "1 files" in ingest()
    assert "1 unchanged" in ingest()
    note.write_text("# Parking\n\nThe blue garage has 55 places.\n")
    assert "1 files" in ingest()
    with server.client() as client:
        stores = {
            store["name"]: store["id"] for store in client.get("/vector_stores").json()["data"]
        }
        found = client.post(
            f"/vector_stores/{stores['notes']}/search", json={"query": "places in the blue garage"}
        ).json()["data"]
    assert ["55 places" in hit["content"][0]["text"] for hit in found] == [True]


def test_a_file_that_cannot_be_read_is_named_and_fails_the_command(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"this is no PDF")
    environ = server.environ | {
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": server.api_key,
    }
    done = engram("ingest", str(tmp_path), "--store", "broken", environ=environ)
    assert done.returncode == 1
    assert "broken.pdf" in done.stderr


@pytest.mark.parametrize("deployment", ["retriever", "gateway"])
def test_a_killed_replica_comes_back(server: Server, deployment: str) -> None:
    killed = server.replica(deployment)
    assert killed is not None
    killed.kill()
    eventually(lambda: is_answering(server), within_s=90)
    successor = server.replica(deployment)
    assert successor is not None
    assert successor.pid != killed.pid


def test_a_replica_killed_while_it_loads_is_replaced_by_one_that_has_the_adapter(
    server: Server,
) -> None:
    store = open_store(load(server.environ))
    demo = TenantId("demo")

    def held() -> list[tuple[str, str, str]]:
        return [(one.adapter, one.state, one.replica) for one in store.residencies.of(demo)]

    try:
        store.adapters.pin(demo, "helpdesk@1")
        eventually(lambda: [state for _, state, _ in held()] == ["loading"], within_s=30)
        [(_, _, first)] = held()
        killed = server.replica("gateway")
        assert killed is not None
        killed.kill()
        eventually(lambda: is_answering(server), within_s=90)
        found = held()  # before it answered, as it is pinned; what the dead one said runs out
        assert [one[:2] for one in found if one[2] != first] == [("demo/helpdesk@1", "ready")]
        eventually(lambda: len(held()) == 1, within_s=30)
        store.adapters.pin(demo, "helpdesk@1", pinned=False)
    finally:
        store.ledger.close()
    answer = ask(server, "helpdesk@1").raise_for_status()
    assert answer.headers["engram-adapter"] == "helpdesk@1"


def test_a_lost_raylet_is_said_and_up_starts_again(server: Server) -> None:
    """The replicas may answer on, but nobody would replace one."""
    run = server.run
    [raylet] = [process for process in runs.processes(run) if process.name() == "raylet"]
    raylet.kill()
    eventually(lambda: not runs.is_led(run), within_s=60)
    status = engram("status", environ=server.environ)
    assert status.returncode == 1
    up = engram("up", environ=server.environ)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "already up" not in up.stdout
    assert ask(server).is_success
    for said in (status.stdout, up.stdout):
        assert "Ray's raylet has ended" in said


def test_down_stops_everything_and_only_that(tmp_path: Path, server: Server) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        run, members = server.run, runs.processes(server.run)
        assert engram("down", environ=server.environ).returncode == 0
        assert runs.processes(run) == []
        assert not any(process.is_running() for process in members)
        assert not Path(run.temp).exists()
        assert bystander.poll() is None
        assert "nothing runs" in engram("down", environ=server.environ).stdout
    finally:
        bystander.kill()
        bystander.wait()


def test_a_taken_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = QUICK | {"ENGRAM_SERVER__PORT": str(port)}
        up = engram("up", environ=environment(tmp_path, settings))
    assert up.returncode == 1
    [line] = up.stderr.strip().splitlines()
    assert f"Port {port}" in line
    assert "PORT=" in line


def test_a_record_whose_processes_are_gone_counts_as_nothing(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    gone.wait()
    write_record(tmp_path, session=gone.pid)
    assert runs.find(tmp_path) is None
    assert cluster.stop(tmp_path, print) is False


def test_a_process_older_than_the_record_is_never_ours(tmp_path: Path) -> None:
    """The recorded id may name a stranger after a reboot."""
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        later = psutil.Process(stranger.pid).create_time() + 3600
        write_record(tmp_path, session=stranger.pid, started=later)
        assert cluster.stop(tmp_path, print) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_orphans_of_a_killed_head_are_found_and_ended(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', %r]); %s"
    sleep = "import time; time.sleep(600)"
    head = subprocess.Popen(
        [sys.executable, "-c", script % (sleep, "time.sleep(600)")], start_new_session=True
    )
    write_record(tmp_path, session=head.pid, started=psutil.Process(head.pid).create_time())
    eventually(lambda: len(runs.processes(found(tmp_path))) == 2, within_s=10)
    head.send_signal(signal.SIGKILL)
    head.wait()
    [orphan] = runs.processes(found(tmp_path))
    assert cluster.stop(tmp_path, print) is True
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_a_run_without_its_head_is_not_led(tmp_path: Path) -> None:
    head = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    write_record(tmp_path, session=head.pid, started=psutil.Process(head.pid).create_time())
    run = found(tmp_path)
    assert runs.is_led(run)
    head.kill()
    head.wait()
    assert not runs.is_led(run)
    log = tmp_path / "logs" / "cluster.log"
    log.parent.mkdir()
    log.write_text(f"{PREFIX}starting\n{PREFIX}{READY}\nnoise\n")
    assert cluster.last_words(tmp_path) == ""
    log.write_text(f"{PREFIX}{READY}\nnoise\n{PREFIX}it broke\n")
    assert cluster.last_words(tmp_path) == ": it broke"


def found(data: Path) -> runs.Run:
    run = runs.find(data)
    assert run is not None
    return run


def write_record(data: Path, session: int, started: float = 0.0) -> None:
    settings = load({"ENGRAM_DATA": str(data), "ENGRAM_SERVER__PORT": str(free_port())})
    temp = data / "temp"
    temp.mkdir()
    record = {
        "id": "0",
        "session": session,
        "started": started,
        "url": f"http://127.0.0.1:{settings.server.port}",
        "temp": str(temp),
        "settings": {"ENGRAM_DATA": str(data)},
    }
    (data / "run").mkdir()
    (data / "run" / "cluster.json").write_text(json.dumps(record))
