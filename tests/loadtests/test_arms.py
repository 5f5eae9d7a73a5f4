from __future__ import annotations

from dataclasses import dataclass

import pytest

from loadtests.arms import Arm, ArmError, command_line, running
from loadtests.client import closed_loop
from loadtests.measure import Case, Work, measure
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
    work = Work(["why?"], streams=1, requests=1, max_tokens=8)
    async with running([arm], say=lambda line: None):
        load = await closed_loop(arm.target, work.requests_for(Case("x", arm, "m"), 2), 1)
        assert [error[:8] for error in load.errors] == ["HTTP 501"] * 2
        with pytest.raises(ArmError, match="x: no request succeeded: HTTP 501"):
            await measure([Case("x", arm, "m")], work, 1, lambda line: None)
