"""Errors as OpenAI's clients read them: a status, and {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from ..errors import UserError
from .drawing import DrainingError, EngineError, QueueFullError

_log = logging.getLogger(__name__)
_KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}


class ErrorBody(BaseModel):
    """What went wrong, in one sentence that says what to mend."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorBody


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: one sentence.
        code: a word for programs.
        param: the field that is wrong.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def too_many(message: str, code: str, retry_after_s: float) -> ApiError:
    """429 with the time after which it is worth another try."""
    return ApiError(429, message, code, headers={"Retry-After": str(max(1, round(retry_after_s + 0.5)))})


def as_api_error(error: Exception) -> ApiError:
    """The answer for any error; what is not foreseen becomes a 500 that tells nothing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return too_many(f"The queue is full; try again in {error.retry_after_s} s.", "queue_full", error.retry_after_s)
    if isinstance(error, DrainingError):
        return ApiError(503, "The server is stopping; try again in a moment.", "stopping", headers={"Retry-After": "5"})
    if isinstance(error, EngineError):
        return ApiError(500, "The picture could not be drawn; the server's log says why.", "drawing_failed")
    if isinstance(error, ValidationError):
        return _of_validation(error)
    if isinstance(error, UserError):
        return ApiError(400, str(error), "invalid_instruction")
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, _sentence(error), headers=error.headers)
    _log.error("unforeseen error", exc_info=error)
    return ApiError(500, "Something went wrong here; the server's log says what.", "internal_error")


def _of_validation(error: ValidationError) -> ApiError:
    """The first of pydantic's complaints."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"]) or None
    reason = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", "unknown_parameter", param)
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{param}'.", "missing_parameter", param)
    sentence = f"'{param}': {reason}." if param else f"{reason}."
    return ApiError(400, sentence, "invalid_value", param)


def _sentence(error: HTTPException) -> str:
    if error.status_code == 404:
        return "There is nothing at this address; see /docs for what there is."
    if error.status_code == 405:
        return "This address does not take that method; see /docs for what it takes."
    return f"{error.detail}."


def add_handlers(app: FastAPI) -> None:
    """Every error of the application leaves in this shape."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    for kind in (ApiError, EngineError, UserError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
