"""Errors in the form and with the status of OpenAI's API, so that its clients raise what they always do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerog.errors import ContextExceeded, EngineBusy, InferenceError

INVALID = "invalid_request_error"
RETRY_AFTER = 2
"""Seconds after which a refused request may be sent again."""


class ApiError(InferenceError):
    """One error of the API.

    Attributes
    ----------
    status : HTTP status.
    kind : ``type`` of the error; what clients choose their exception by is the status.
    param : the member of the request that is wrong.
    code : short machine-readable reason.
    headers : further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": fields}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that can never succeed, status 400."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str) -> ApiError:
    """A parameter of OpenAI's API that this endpoint does not have."""
    return invalid(f"{param} is not supported by this endpoint", param, "unsupported_parameter")


def unknown_model(name: str) -> ApiError:
    """No model of that name, status 404."""
    message = f"The model `{name[:200]}` does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")


def busy(message: str) -> ApiError:
    """No room now, status 429."""
    return ApiError(
        429,
        message,
        kind="requests",
        code="rate_limit_exceeded",
        headers={"retry-after": str(RETRY_AFTER)},
    )


def unavailable(message: str, code: str = "engine_unavailable") -> ApiError:
    """The engine cannot answer, status 503."""
    return ApiError(503, message, kind="server_error", code=code)


def context_exceeded(error: ContextExceeded, param: str) -> ApiError:
    """Prompt and answer do not fit the model."""
    message = (
        f"This model's maximum context length is {error.context} tokens. However, you requested"
        f" {error.prompt_tokens + error.max_tokens} tokens ({error.prompt_tokens} in the {param},"
        f" {error.max_tokens} in the completion)."
    )
    return invalid(message, param, "context_length_exceeded")


def from_engine(error: InferenceError, param: str) -> ApiError:
    """What a failed generation means to the client; ``param`` is where its prompt stands."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextExceeded):
        return context_exceeded(error, param)
    if isinstance(error, EngineBusy):
        return busy("The engine's queue is full; try again later.")
    return unavailable(f"The engine failed: {error}", "engine_failed")
