"""A running server's adapters over `/admin/adapters`, for the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving.remote import RemoteServer, ServerError

_PATH = "/admin/adapters"


class AdapterClient(RemoteServer):
    """Versions by their names."""

    answer_s = 600.0  # a large adapter is checked before it is answered

    def add(self, path: Path, name: str, promote: bool) -> dict[str, Any]:
        """Sends a folder's files, or an archive."""
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        plain = [file for file in files if file.is_file() and not file.name.startswith(".")]
        if not plain:
            raise ServerError(f"there are no files in {path}")
        fields = {"name": name, "promote": "true" if promote else "false"}
        with ExitStack() as stack:
            form = [("file", (f.name, stack.enter_context(f.open("rb")))) for f in plain]
            return self.call("POST", _PATH, data=fields, files=form)

    def list(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        return self.pages(_PATH, **({"name": name} if name else {}))

    def show(self, adapter: str) -> dict[str, Any]:
        return self.call("GET", _path(adapter))

    def move(self, adapter: str, move: str) -> dict[str, Any]:
        """`promote`, `rollback`, `retire` or `pin`."""
        return self.call("POST", f"{_path(adapter)}/{move}")

    def unpin(self, adapter: str) -> dict[str, Any]:
        return self.call("DELETE", f"{_path(adapter)}/pin")

    def delete(self, adapter: str) -> dict[str, Any]:
        return self.call("DELETE", _path(adapter))


def _path(adapter: str) -> str:
    return f"{_PATH}/" + quote(adapter, safe=":@")
