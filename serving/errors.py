"""Every way a request can fail, drawn once; `api/errors.py` maps the tree to HTTP.

ServingError
├── RequestError                 4xx: the caller can mend it
│   ├── InvalidRequest           400  a field is missing, malformed or out of range
│   │   └── PromptTooLong        400  the prompt and the answer do not fit the model's context
│   ├── Unauthenticated          401  no API key, or an unknown or revoked one
│   ├── Forbidden                403  the key lacks the scope
│   ├── NotFound                 404  no such object, or another tenant's
│   │   └── UnknownModel         404  no such assistant, adapter or model
│   ├── Conflict                 409  the object exists or is in use
│   ├── BodyTooLarge             413  the request body is over the limit
│   └── RateLimited              429  the caller is over its own limit (Retry-After)
├── CapacityError                503  Engram is full; the same request may work later (Retry-After)
│   ├── Overloaded               503  no turn would come soon enough
│   └── AdapterNotReady          503  the adapter cannot be loaded now
└── BackendError                 5xx: Engram's own parts failed
    ├── EngineFailed             500
    ├── RetrievalFailed          502
    │   └── RetrieverUnavailable 503  no replica answers; another is starting (Retry-After)
    └── DeadlineExceeded         504
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_SHOWN = 64  # characters of a name that a caller made up


class ServingError(Exception):
    """Base of all; `message` is safe to show to the caller."""

    status = 500
    type = "server_error"
    code = "internal_error"
    retry_after_s: float | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class RequestError(ServingError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidRequest(RequestError):
    code = "invalid_value"


def unknown_field(name: str, known: Iterable[str]) -> InvalidRequest:
    """Says which known field may have been meant."""
    name = name[:MAX_SHOWN]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return InvalidRequest(f"unknown field '{name}'{hint}", param=name)


class PromptTooLong(InvalidRequest):
    code = "context_length_exceeded"


class Unauthenticated(RequestError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class NotFound(RequestError):
    status = 404
    code = "not_found"


class UnknownModel(NotFound):
    code = "model_not_found"


class Conflict(RequestError):
    status = 409
    code = "conflict"


class BodyTooLarge(RequestError):
    status = 413
    code = "request_too_large"


class RateLimited(RequestError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CapacityError(ServingError):
    status = 503
    type = "server_error"
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(CapacityError):
    pass


class AdapterNotReady(CapacityError):
    code = "adapter_not_ready"


class BackendError(ServingError):
    pass


class EngineFailed(BackendError):
    code = "engine_failed"


class RetrievalFailed(BackendError):
    status = 502
    code = "retrieval_failed"


class RetrieverUnavailable(RetrievalFailed):
    status = 503
    code = "retriever_unavailable"
    retry_after_s = 1.0


class DeadlineExceeded(BackendError):
    status = 504
    code = "deadline_exceeded"
