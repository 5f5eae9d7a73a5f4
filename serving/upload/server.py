"""A running server as the uploader sees it: also how much memory its ingest took."""

from __future__ import annotations

import httpx

from serving.remote import RemoteServer

_MEMORY = "engram_ingest_peak_memory_bytes "


class Server(RemoteServer):
    """Files and vector stores over the public API."""

    def ingest_memory(self) -> int | None:
        """The most bytes that an ingest worker of the server's node has held since its start; None
        if there is none on that node."""
        try:
            response = self._http.get("/metrics")
        except httpx.HTTPError:
            return None
        lines = response.text.splitlines() if response.is_success else []
        values = [line.removeprefix(_MEMORY) for line in lines if line.startswith(_MEMORY)]
        return int(float(values[0])) or None if values else None
