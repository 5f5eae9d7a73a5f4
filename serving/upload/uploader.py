"""Carries out a plan over the server's public API, and says how each file fared as it ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serving.remote import ServerError
from serving.upload.plan import Plan, Stored, plan
from serving.upload.server import Server
from serving.upload.tree import Local, Tree

_AT_ONCE = 8
_POLL_S = 0.5
_GONE, _USED = 404, 409  # by somebody else


@dataclass(frozen=True, slots=True)
class Sent:
    """How one file fared: `error` is None when it is searchable, or gone if `deleted`."""

    path: str
    chunks: int = 0
    error: str | None = None
    deleted: bool = False


Report = Callable[[Sent], None]


class Uploader(Server):
    """A server whose vector stores are brought in step with folders; for one thread."""

    def store(self, name: str) -> str:
        """The id of the vector store called `name`, created if there is none.

        Raises:
            ServerError: the server refused.
        """
        for store in self.pages("/v1/vector_stores", order="asc"):
            if store["name"] == name:
                return str(store["id"])
        return str(self.call("POST", "/v1/vector_stores", json={"name": name})["id"])

    def plan(self, tree: Tree, store_id: str, *, prune: bool = False) -> Plan:
        stored = [known for known in self._stored(store_id) if tree.covers(known.path)]
        return plan(tree.files(), stored, prune=prune)

    def carry_out(self, plan: Plan, store_id: str, report: Report) -> list[Sent]:
        """`report` is called from this thread as each file ends, while others are still sent."""
        sent: list[Sent] = []

        def ended(result: Sent) -> None:
            sent.append(result)
            report(result)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            sending = [
                pool.submit(self._send, file, store_id) for file in (*plan.add, *plan.change)
            ]
            sending += [pool.submit(self._attach_again, known, store_id) for known in plan.wait]
            try:
                self._see_to_the_end(sending, plan.earlier, store_id, ended)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for known in plan.delete:
            self._delete(known.file_id, store_id)
            ended(Sent(known.path, deleted=True))
        return sent

    def _see_to_the_end(
        self,
        sending: Sequence[Future[Sent | str]],
        earlier: Mapping[str, Sequence[Stored]],
        store_id: str,
        ended: Report,
    ) -> None:
        """Until every file is searchable or has failed; then its earlier versions go.

        Files are read in about the order in which they were attached, so only the first that are
        not ready are asked for, however many wait behind them.
        """
        sending, awaited = list(sending), deque[str]()
        while sending or awaited:
            for upload in [one for one in sending if one.done()]:
                sending.remove(upload)
                result = upload.result()
                if isinstance(result, Sent):
                    ended(result)
                else:
                    awaited.append(result)
            if not self._end_the_first(awaited, earlier, store_id, ended):
                time.sleep(_POLL_S)

    def _end_the_first(
        self,
        awaited: deque[str],
        earlier: Mapping[str, Sequence[Stored]],
        store_id: str,
        ended: Report,
    ) -> bool:
        """Whether one of the first has ended."""
        first = [awaited.popleft() for _ in range(min(_AT_ONCE, len(awaited)))]
        unready = []
        for file_id in first:
            known = self._known(file_id, store_id)
            if known is None:
                continue
            if known.status == "in_progress":
                unready.append(file_id)
                continue
            if known.status == "completed":
                for other in earlier.get(known.path, ()):
                    self._delete(other.file_id, store_id)
            error = None if known.status == "completed" else known.error or known.status
            ended(Sent(known.path, known.chunks, error))
        awaited.extendleft(reversed(unready))
        return len(unready) < len(first)

    def _known(self, file_id: str, store_id: str) -> Stored | None:
        try:
            file = self.call("GET", f"/v1/vector_stores/{store_id}/files/{file_id}")
        except ServerError as error:
            if error.status == _GONE:
                return None
            raise
        return _stored(file)

    def _send(self, file: Local, store_id: str) -> Sent | str:
        """The id of the uploaded file, which is now being read; or why there is none."""
        try:
            with file.file.open("rb") as data:
                upload = {"file": (file.path.rpartition("/")[2], data)}
                form = {"purpose": "assistants"}
                uploaded = self.call("POST", "/v1/files", files=upload, data=form)
            attributes = {"path": file.path, "sha256": file.sha256}
            return self._attach(str(uploaded["id"]), attributes, store_id)
        except (ServerError, OSError) as error:
            return Sent(file.path, error=str(error))

    def _attach_again(self, known: Stored, store_id: str) -> Sent | str:
        try:
            attributes = {"path": known.path, "sha256": known.sha256}
            return self._attach(known.file_id, attributes, store_id)
        except ServerError as error:
            return Sent(known.path, error=str(error))

    def _attach(self, file_id: str, attributes: dict[str, str], store_id: str) -> str:
        body = {"file_id": file_id, "attributes": attributes}
        self.call("POST", f"/v1/vector_stores/{store_id}/files", json=body)
        return file_id

    def _delete(self, file_id: str, store_id: str) -> None:
        """From the store, and altogether unless another store has it."""
        for path in (
            f"/v1/vector_stores/{store_id}/files/{file_id}",
            f"/v1/files/{file_id}?if_unused=true",
        ):
            try:
                self.call("DELETE", path)
            except ServerError as error:
                if error.status not in (_GONE, _USED):
                    raise

    def _stored(self, store_id: str) -> Iterator[Stored]:
        """The files that an ingest put there."""
        files = map(_stored, self.pages(f"/v1/vector_stores/{store_id}/files", order="asc"))
        return (file for file in files if file is not None)


def _stored(file: Mapping[str, Any]) -> Stored | None:
    """None if no ingest put it there."""
    attributes = file.get("attributes") or {}
    if "path" not in attributes:
        return None
    return Stored(
        str(file["id"]),
        str(attributes["path"]),
        str(attributes.get("sha256", "")),
        str(file["status"]),
        int((file.get("engram") or {}).get("chunks", 0)),
        (file.get("last_error") or {}).get("message"),
    )
