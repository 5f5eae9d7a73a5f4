"""A journey of somebody who uploads a document, waits until it can be found, and searches it."""

from __future__ import annotations

import secrets
import time
from contextlib import suppress

import gevent
from locust import task
from locust.exception import RescheduleTask

from loadtests.journeys.reader import Reader
from loadtests.journeys.rows import note

POLL_S = 0.2
PATIENCE_S = 120.0
_NOTE = "# Locker {code}\n\nThe locker {code} is on the second floor and has a blue door.\n"


class Documents(Reader):
    """Each user has a vector store of its own for as long as it lives."""

    weight = 1
    store: str | None = None

    @task  # type: ignore[untyped-decorator]
    def upload_and_search(self) -> None:
        if self.store is None:
            name = {"name": "loadtest"}
            self.store = self.call("POST", "/vector_stores", "POST vector store", json=name)["id"]
        code = secrets.token_hex(4)
        file = self.upload(f"{code}.md", _NOTE.format(code=code).encode())
        try:
            self._wait_until_found(file)
            self._search(code)
        finally:
            self.call("DELETE", f"/files/{file}", "DELETE file")

    def on_stop(self) -> None:
        if self.store is None:
            return
        with suppress(RescheduleTask):  # it was counted
            self.call("DELETE", f"/vector_stores/{self.store}", "DELETE vector store")

    def _wait_until_found(self, file: str) -> None:
        began = time.perf_counter()
        path = f"/vector_stores/{self.store}/files"
        state = self.call("POST", path, "POST vector store file", json={"file_id": file})
        while state["status"] == "in_progress":
            if time.perf_counter() - began > PATIENCE_S:
                self.fail("searchable", f"still in progress after {PATIENCE_S:g} s")
            gevent.sleep(POLL_S)
            state = self.call("GET", f"{path}/{file}", "GET vector store file")
        if state["status"] != "completed":
            self.fail("searchable", f"the file is {state['status']}")
        note(self.environment.stats, "INGEST", "searchable", (time.perf_counter() - began) * 1e3)

    def _search(self, code: str) -> None:
        path, query = f"/vector_stores/{self.store}/search", f"Where is the locker {code}?"
        found = self.call("POST", path, "POST search", json={"query": query})["data"]
        texts = [part["text"] for hit in found for part in hit["content"]]
        if not any(code in text for text in texts):
            self.fail("search", "a document that was completed is not found")
