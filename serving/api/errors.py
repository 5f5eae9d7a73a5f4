"""Maps the error tree to HTTP in OpenAI's error shape; the only place that does."""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.errors import InvalidRequest, NotFound, ServingError

log = logging.getLogger("engram.api")


def error_body(error: ServingError) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_response(error: ServingError, request_id: str = "") -> Response:
    headers = {"engram-request-id": request_id} if request_id else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(orjson.dumps(error_body(error)), error.status, headers, "application/json")


def as_serving_error(error: BaseException) -> ServingError:
    """What the caller may know of any exception; the log keeps the rest."""
    if isinstance(error, ServingError):
        return error
    log.error("unhandled exception", exc_info=error)
    return ServingError("Engram failed to answer; the log has the details under the request id")


def install(app: FastAPI) -> None:
    """Registers the handlers."""

    async def serving(request: Request, error: Exception) -> Response:
        return error_response(as_serving_error(error), request.scope.get("request_id", ""))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        unknown = NotFound(f"{request.method} {request.url.path} is not served here")
        unknown.status = error.status_code
        return error_response(unknown, request.scope.get("request_id", ""))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        param = ".".join(str(part) for part in problem["loc"][1:])
        return await serving(request, InvalidRequest(f"{param}: {problem['msg']}", param=param))

    app.add_exception_handler(ServingError, serving)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, serving)
