from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtests.arms import Arm, ArmError, HttpRelay, Unavailable, command_line, packages, running
from loadtests.client import Target, closed_loop
from loadtests.measure import Case, Work, measure
from loadtests.mock import Mock, Pace
from serving.settings import EngineSettings


@dataclass
class Folder(Arm):
    """Python's own file server, which answers GET and refuses POST."""

    health: str = "/"

    def command(self) -> list[str]:
        return ["http.server", str(self.target.port), "--bind", self.target.host]


@dataclass
class Broken(Arm):
    def command(self) -> list[str]:
        return ["json.tool", "--no-such-flag"]


class Words(Arm):
    """The mock, in this process."""

    async def start(self) -> None:
        self._server = await Mock(Pace(ttft_s=0.01, itl_s=0.001, tokens=9)).start()
        self.target = Target(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()


class Nowhere(Arm):
    async def prepare(self, say: Callable[[str], None]) -> None:
        raise Unavailable("cannot be had")


def _arm(kind: type[Arm]) -> Arm:
    return kind(kind.__name__.lower(), EngineSettings(kind="scripted"))


def test_engine_arguments_become_flags() -> None:
    arguments = {"model": "m", "enable_lora": True, "no": False, "parser": "", "more": {"a": 1}}
    assert command_line(arguments) == (
        ["--model", "m", "--enable-lora", "--no-no", "--more", '{"a":1}']
    )


async def test_arms_run_inside_the_block_and_leave_nothing_behind() -> None:
    arm = _arm(Folder)
    async with running([arm], say=lambda line: None):
        assert len(arm.tree.processes()) == 1
    assert arm.tree.processes() == []
    assert not arm.folder.exists()


async def test_when_one_arm_fails_all_stop_and_the_message_says_why() -> None:
    good, bad = _arm(Folder), _arm(Broken)
    with pytest.raises(ArmError, match=r"(?s)broken: its process ended with 2.*no-such-flag"):
        async with running([good, bad], say=lambda line: None):
            pytest.fail("must not get here")
    assert good.tree.processes() == []


async def test_a_case_that_never_answers_is_no_measurement() -> None:
    arm = _arm(Folder)
    work = Work(["why?"], streams=1, seconds=0, max_tokens=8)
    async with running([arm], say=lambda line: None):
        load = await closed_loop(arm.target, work.requests_for(Case("x", arm, "m")), 1)
        assert [error[:8] for error in load.errors] == ["HTTP 501"]
        with pytest.raises(ArmError, match="x: no request succeeded: HTTP 501"):
            await measure([Case("x", arm, "m")], work, 1, lambda line: None)


async def test_what_cannot_be_had_is_left_out() -> None:
    said: list[str] = []
    folder = _arm(Folder)
    async with running([_arm(Nowhere), folder], said.append) as ran:
        assert ran == [folder]
    assert "left out: cannot be had" in said


async def test_a_relay_starts_after_its_upstream_and_passes_every_token_on() -> None:
    relay = HttpRelay("relay", EngineSettings(kind="scripted"), _arm(Words))
    async with running([relay], say=lambda line: None) as ran:
        assert ran == [relay]  # what it needs is not asked for
        requests = [relay.target.request({"messages": []})] * 8
        load = await closed_loop(relay.target, requests, 4)
    assert load.errors == []
    assert [answer.tokens for answer in load.answers] == [9] * 8
    assert relay.tree.processes() == []


async def test_packages_that_cannot_be_installed_are_named_and_never_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(f"{tmp_path}/no-such.whl\n")
    with pytest.raises(Unavailable, match=r"no-such\.whl"):
        await packages.install(wanted, lambda line: None)
    assert not packages.is_whole(wanted)
