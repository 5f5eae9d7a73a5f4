"""The outermost layer: gives every request an id and lets none in without an API key, nor a
question for which there is no room, before any of its body is read.

Pure ASGI, since Starlette's `BaseHTTPMiddleware` costs 55 µs per streamed token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import telemetry
from serving.api.errors import as_serving_error, error_response
from serving.errors import Forbidden, InvalidRequest, ServingError, Unauthenticated
from serving.types import Caller

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
SCOPES = {"/admin": "admin"}  # path prefix → scope; everything else needs `inference`
ANSWERS = {  # what generates, and how the metrics call it
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
}
# Asks the system only once: a system call lets go of the interpreter's lock. And not of the module
# `random`, which vLLM seeds.
_random_bits = Random().getrandbits

Authenticate = Callable[[str], Awaitable[Caller]]
Check = Callable[[Caller], None]


class Edge:
    def __init__(self, app: ASGIApp, authenticate: Authenticate, check: Check) -> None:
        """`check` raises if a caller's question would be refused now."""
        self._app = app
        self._authenticate = authenticate
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = f"req-{_random_bits(128):032x}"
        if scope["path"] not in OPEN_PATHS:
            try:
                _check_address(scope)
                scope["caller"] = await self._authorize(scope)
                self._check_room(scope)
            except Exception as error:  # noqa: BLE001 - an ASGI app must answer; logged when mapped
                response = error_response(as_serving_error(error), request_id)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _authorize(self, scope: Scope) -> Caller:
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise Unauthenticated("send your API key as 'Authorization: Bearer sk-engram-…'")
        caller = await self._authenticate(token.strip())
        needed = next((s for p, s in SCOPES.items() if scope["path"].startswith(p)), "inference")
        if needed not in caller.scopes:
            raise Forbidden(f"this API key lacks the scope '{needed}'")
        return caller

    def _check_room(self, scope: Scope) -> None:
        """Refused here, a request costs no parsing, no record and no memory for its body."""
        endpoint = ANSWERS.get(scope["path"])
        if endpoint is None or scope["method"] != "POST":
            return
        try:
            self._check(scope["caller"])
        except ServingError:
            telemetry.REQUESTS.labels(endpoint, "none", "refused").inc()
            raise


def _check_address(scope: Scope) -> None:
    """Ids go into SQL, and PostgreSQL takes no NUL in a text."""
    if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
        raise InvalidRequest("the address holds a NUL character")
