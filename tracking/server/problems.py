"""Errors as RFC 9457 `application/problem+json`: a stable `code` for programs, a `hint` for people."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .database import DatabaseClosed, StorageDown, StorageFull, WriterBusy

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
ERRORS_SHOWN_MAX = 20
"""A body with ten thousand mistakes gets the first few named."""

_log = logging.getLogger(__name__)


class Problem(Exception):
    """What a route raises: `status` and `code` for programs, `title`, `detail` and `hint` for people.

    `extra` are further members of the answer. `headers` go out with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        hint: str = "",
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.hint = hint
        self.headers = headers
        self.extra = extra

    def body(self) -> dict[str, Any]:
        known = {"detail": self.detail, "code": self.code, "hint": self.hint}
        filled = {key: value for key, value in known.items() if value}
        return {"type": "about:blank", "title": self.title, "status": self.status, **filled, **self.extra}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, media_type=MEDIA_TYPE, headers=self.headers)


def not_found(what: str, hint: str = "") -> Problem:
    """404 for a thing that isn't there, or that the caller may not know of."""
    return Problem(404, "NOT_FOUND", f"no such {what}", hint=hint)


def too_large(what: str, limit_bytes: int) -> Problem:
    """413 with the limit in it, in `limit_bytes`."""
    return Problem(
        413,
        "TOO_LARGE",
        f"{what} is over its limit of {limit_bytes} bytes",
        hint="send less at a time, or log it as an artifact",
        limit_bytes=limit_bytes,
    )


def install(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(StorageFull, _on_storage_full)
    app.add_exception_handler(StorageDown, _on_busy)
    app.add_exception_handler(WriterBusy, _on_busy)
    app.add_exception_handler(DatabaseClosed, _on_busy)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _on_invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"at": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
        for item in error.errors()[:ERRORS_SHOWN_MAX]
    ]
    detail = "; ".join(f"{item['at']}: {item['message']}" for item in errors)
    return Problem(422, "INVALID", "the request is not valid", detail, errors=errors).response()


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
    title = HTTPStatus(error.status_code).phrase.lower()
    detail = {
        404: f"there is no {request.url.path} here",
        405: f"{request.url.path} does not take {request.method}",
    }.get(error.status_code, str(error.detail))
    code = codes.get(error.status_code, HTTPStatus(error.status_code).name)
    headers = dict(error.headers) if error.headers else None
    return Problem(error.status_code, code, title, detail, headers=headers).response()


async def _on_storage_full(_request: Request, error: Exception) -> JSONResponse:
    _log.error("refused a write: %s", error)
    return Problem(
        503,
        "STORAGE_FULL",
        "the server's disk is full",
        "nothing of this request was stored",
        "free space on the disk of the server's state; it recovers by itself",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ).response()


async def _on_busy(_request: Request, error: Exception) -> JSONResponse:
    return Problem(
        503,
        "BUSY",
        "the server cannot take this now",
        str(error),
        "send it again a little later",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    ).response()


async def _on_disconnect(_request: Request, _error: Exception) -> JSONResponse:
    # Nobody reads this answer; it only keeps a hung-up upload from being logged as an error of ours.
    return Problem(400, "DISCONNECTED", "the client went away in the middle of its request").response()


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    number = secrets.token_hex(6)
    _log.error("error %s in %s %s", number, request.method, request.url.path, exc_info=error)
    return Problem(
        500,
        "INTERNAL",
        "the server failed",
        f"error {number}",
        "the server's log tells more under this number",
        error_id=number,
    ).response()
