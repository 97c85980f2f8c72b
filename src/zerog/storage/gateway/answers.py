"""The wrapper of the gateway's JSON answers, and the refusals that it knows."""

from __future__ import annotations

from typing import Any

HTTP_INTERNAL = 600
"""HTTP status of an internal error, as 0G's gateway answers."""


class Refusal(Exception):
    """A request that is answered with an error code."""

    code = 2
    message = "Internal server error"

    def __init__(self, data: Any = None) -> None:
        super().__init__(self.message)
        self.data = data

    @property
    def status(self) -> int:
        """The HTTP status."""
        return HTTP_INTERNAL if self.code == 2 else 200


class InvalidParameter(Refusal):
    code, message = 1, "Invalid parameter"


class InternalError(Refusal):
    code, message = 2, "Internal server error"


class FileNotFound(Refusal):
    code, message = 101, "File not found"


class FilePruned(Refusal):
    code, message = 102, "File already pruned"


class FileNotFinalized(Refusal):
    code, message = 103, "File not finalized yet"


class PathNotFound(Refusal):
    code, message = 104, "File path not found"


class FileTooLarge(Refusal):
    code, message = 105, "File size too large"

    def __init__(self, actual: int, most: int) -> None:
        super().__init__({"actual": actual, "max": most})


class TypeUnsupported(Refusal):
    code, message = 106, "File type unsupported"


def success(data: Any) -> dict[str, Any]:
    """The wrapper of a good answer."""
    return {"code": 0, "message": "Success", "data": data}


def refused(refusal: Refusal) -> dict[str, Any]:
    """The wrapper of an error."""
    return {"code": refusal.code, "message": refusal.message, "data": refusal.data}
