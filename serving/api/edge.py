"""The outermost layer: gives every request an id and lets none in without an API key.

Pure ASGI, since Starlette's `BaseHTTPMiddleware` costs 55 µs per streamed token.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.errors import as_serving_error, error_response
from serving.errors import Forbidden, InvalidRequest, Unauthenticated
from serving.types import Caller

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
SCOPES = {"/admin": "admin"}  # path prefix → scope; everything else needs `inference`

Authenticate = Callable[[str], Awaitable[Caller]]


class Edge:
    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = f"req-{uuid.uuid4().hex}"
        if scope["path"] not in OPEN_PATHS:
            try:
                _check_address(scope)
                scope["caller"] = await self._authorize(scope)
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


def _check_address(scope: Scope) -> None:
    """Ids go into SQL, and PostgreSQL takes no NUL in a text."""
    if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
        raise InvalidRequest("the address holds a NUL character")
