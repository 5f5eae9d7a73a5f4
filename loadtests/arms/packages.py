"""Packages that only one arm needs, in an environment of their own that is made on demand."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from loadtests.arms.arm import Unavailable

CACHE = Path.home() / ".cache/engram/loadtests"
_WHOLE = "whole"  # a file that is written last


def folder_of(requirements: Path) -> Path:
    """Its folder; another one when the requirements change."""
    name = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    return CACHE / name


def packages(requirements: Path) -> Path:
    """The folder of modules in its environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder_of(requirements) / "lib" / version / "site-packages"


def is_whole(requirements: Path) -> bool:
    """Whether the environment was installed to its end."""
    return (folder_of(requirements) / _WHOLE).exists()


async def install(requirements: Path, say: Callable[[str], None]) -> None:
    """Makes the environment of these requirements, unless it was made before.

    Raises:
        Unavailable: pip fails; the message has its last line.
    """
    folder = folder_of(requirements)
    CACHE.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:  # of those who install it at once, one does
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not is_whole(requirements):
            say(f"installing {requirements.name} into {folder}, once")
            await _install(requirements, folder)


async def _install(requirements: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    await _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    await _run([*pip, *options, "-r", str(requirements)])
    (folder / _WHOLE).touch()


async def _run(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    if process.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"`{' '.join(command)}` failed: {last}")
