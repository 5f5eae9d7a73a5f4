"""What every benchmark writes alike: values for the next comparison, and how they were made."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.statistics import Estimate
from serving.settings import ROOT


@dataclass(frozen=True, slots=True)
class Value:
    """One line of `results/latest.json`."""

    name: str
    value: float
    ci_low: float
    ci_high: float
    unit: str


def value_of(name: str, found: Estimate, unit: str) -> Value:
    return Value(name, round(found.value, 4), round(found.low, 4), round(found.high, 4), unit)


def interval(found: Estimate, form: str) -> str:
    return f"{found.value:{form}} ({found.low:{form}} – {found.high:{form}})"


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def hardware() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{_cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
