"""Office documents are ZIP archives of XML: these checks come before any library opens one.

Sizes are taken as declared, and then again as they really are while unpacking.
"""

from __future__ import annotations

import io
import zipfile

MAX_ENTRIES = 4_096
MAX_UNPACKED_BYTES = 256 * 2**20
MAX_RATIO = 200  # office XML compresses 5 to 30 times
_SMALL_BYTES = 2**20  # below this any ratio is harmless
_READ_BYTES = 2**20
# A document type can declare entities; no office program writes one.
_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))


def check_archive(data: bytes) -> None:
    """
    Raises:
        ValueError: with the reason, as the end of a sentence about the file.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        _check_declared(entries)
        unpacked = 0
        for entry in entries:
            unpacked += _check_entry(archive, entry, MAX_UNPACKED_BYTES - unpacked)


def _check_declared(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"its archive has {len(entries)} entries, at most {MAX_ENTRIES} are read")
    declared = sum(entry.file_size for entry in entries)
    if declared > MAX_UNPACKED_BYTES:
        raise ValueError(f"its archive unpacks to {declared} bytes: {_limit()}")
    for entry in entries:
        if entry.flag_bits & 1:
            raise ValueError("it is protected by a password")
        if entry.file_size > max(_SMALL_BYTES, MAX_RATIO * entry.compress_size):
            raise ValueError(
                f"its archive is a bomb: a part unpacks to {entry.file_size} bytes from "
                f"{entry.compress_size}"
            )


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> int:
    """Unpacks it without keeping it; returns its real size."""
    size, end = 0, b""
    with archive.open(entry) as part:
        while piece := part.read(_READ_BYTES):
            size += len(piece)
            if size > left:
                raise ValueError(f"its archive unpacks to more than it says: {_limit()}")
            seam = end + piece
            if _is_xml(entry.filename) and any(mark in seam for mark in _DOCTYPES):
                raise ValueError("its XML declares a document type, which may name other files")
            end = piece[-32:]
    return size


def _is_xml(name: str) -> bool:
    return name.endswith((".xml", ".rels", ".vml"))


def _limit() -> str:
    return f"at most {MAX_UNPACKED_BYTES // 2**20} MiB are read"
