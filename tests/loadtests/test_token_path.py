"""In a process of its own: importing vLLM's parts alone warns of what torch has left behind."""

from __future__ import annotations

import re
import subprocess
import sys

from serving.settings import ROOT

TOKENS = 6
_LINE = re.compile(r"([\d.]+) \(.*\) CPU-µs per token, ([\d.]+) chunks per token")


def test_every_arm_writes_whole_answers_in_no_more_chunks_than_tokens() -> None:
    command = [sys.executable, "-m", "loadtests.token_path", "--streams", "32", "--repeats", "1"]
    run = subprocess.run(
        [*command, "--tokens", str(TOKENS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = _LINE.findall(run.stdout)
    assert len(found) == 2
    for cost, chunks in found:
        assert float(cost) > 0
        opening_and_end = 2
        assert opening_and_end - 0.1 <= float(chunks) * TOKENS <= TOKENS + opening_and_end
