"""Takes an adapter's files out of a tar archive that a stranger made.

Only plain files with the names that an adapter has are written, wherever in the archive they are;
whatever could reach out of the folder, or is larger than it looks, is refused before it is read.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import IO

from serving.adapters.acceptance import FILES
from serving.errors import BodyTooLarge, InvalidRequest

MAX_MEMBERS = 1_000
_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 2**20
_MAX_HEADER_BYTES = 4 * 2**20  # tarfile takes long names and other headers into memory whole
_PADDING_BYTES = MAX_MEMBERS * 2 * 512 + 2**20
_BROKEN = (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError, OverflowError)


def is_archive(filename: str) -> bool:
    return filename.lower().endswith((".tar", ".tar.gz", ".tgz"))


def is_hidden(name: str) -> bool:
    """What macOS puts into archives beside the files, and other hidden files."""
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)


def unpack(archive: IO[bytes], folder: Path, max_bytes: int) -> None:
    """Writes the adapter's files in a tar, or a gzipped one, into the empty `folder`.

    Raises:
        InvalidRequest: it is no such archive, or holds what no adapter needs and can do harm.
        BodyTooLarge: unpacked it is over the limit.
    """
    plain = folder / ".tar"
    archive.seek(0)
    is_gzip = archive.read(2) == _GZIP
    archive.seek(0)
    try:
        unzipped = gzip.GzipFile(fileobj=archive, mode="rb") if is_gzip else nullcontext(archive)
        with plain.open("w+b") as tar, unzipped as source:
            _copy(source, tar, max_bytes + _PADDING_BYTES, max_bytes)
            tar.seek(0)
            with tarfile.open(fileobj=_Cautious(tar), mode="r:") as members:
                _extract(members, folder, max_bytes)
    except _BROKEN as error:
        raise _refusal(f"it is no tar archive that can be read ({error})") from None
    finally:
        plain.unlink(missing_ok=True)


def _copy(source: IO[bytes] | gzip.GzipFile, target: IO[bytes], limit: int, max_bytes: int) -> None:
    while piece := source.read(_PIECE_BYTES):
        target.write(piece)
        if target.tell() > limit:
            raise _too_large(max_bytes)


def _extract(archive: tarfile.TarFile, folder: Path, max_bytes: int) -> None:
    total = 0
    for member in _members(archive):
        name = _plain_name(member)
        if name is None:
            continue
        total += member.size
        if total > max_bytes:
            raise _too_large(max_bytes)
        target, source = folder / name, archive.extractfile(member)
        if target.exists():
            raise _refusal(f"it holds {name} twice")
        assert source is not None, "a plain file"
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _PIECE_BYTES)
        if target.stat().st_size != member.size:
            raise _refusal(f"it is cut short in {name}")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive, 1):
        if count > MAX_MEMBERS:
            raise _refusal(f"it has more than {MAX_MEMBERS} members")
        yield member


def _plain_name(member: tarfile.TarInfo) -> str | None:
    """What of an adapter this member is; None for what is left out."""
    path = PurePosixPath(member.name)
    shown = member.name[:64]
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise _refusal(f"its member {shown!r} leads out of the folder")
    if member.issym() or member.islnk():
        raise _refusal(f"its member {shown!r} is a link: pack the file itself")
    if member.issparse() or not (member.isreg() or member.isdir()):
        raise _refusal(f"its member {shown!r} is no plain file")
    if member.isdir() or is_hidden(member.name):
        return None
    if path.name in ("adapter_model.bin", "adapter_model.pt"):
        raise _refusal(f"{path.name} can run code when loaded: save the weights as safetensors")
    return path.name if path.name in FILES else None


class _Cautious(io.RawIOBase):
    """A file of which nobody can read much at once, whatever a header says of its length."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header is too large")
        return self._file.read(size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _refusal(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the archive is refused: {reason}", param="file")


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the archive unpacks to more than the limit of {max_bytes} bytes: "
        "pack the adapter's own files alone",
        param="file",
    )
