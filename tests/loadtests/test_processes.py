from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtests.processes import Tree

BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ninput()"
ORPHAN = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BUSY!r}], env={{}}, stdin=sys.stdin)
"""


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = Tree(secrets.token_hex(8))
    yield tree
    tree.kill()


def _spawn(tree: Tree, code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | tree.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    tree.lead(process.pid)
    return process


def test_cpu_is_that_of_the_arm_alone(tree: Tree) -> None:
    before = tree.cpu()
    with _spawn(tree, BUSY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        spent = sum(tree.cpu().since(before).values())
        assert 0.25 <= spent < 1.0  # 0.3 s of work, and starting Python
        tree.kill()


def test_a_grandchild_without_mark_or_parent_still_belongs_and_is_killed(tree: Tree) -> None:
    with _spawn(tree, ORPHAN) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.wait()
        assert len(tree.processes()) == 1
        tree.kill()
    assert tree.processes() == []


def test_other_processes_are_never_counted(tree: Tree) -> None:
    with _spawn(Tree("somebody-else"), BUSY) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tree.processes() == []
        process.kill()
