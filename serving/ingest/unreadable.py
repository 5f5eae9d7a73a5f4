"""What a file can be refused for. The messages are for its owner and name the file."""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.types import FileErrorCode


class Unreadable(InvalidRequest):
    """The file is broken, hostile, empty, or not what its name says."""

    error_code: FileErrorCode = "invalid_file"


class Unsupported(Unreadable):
    """The file is of a type that no parser is for."""

    error_code: FileErrorCode = "unsupported_file"
