"""Request bodies read up to a limit: what is too large is refused before it is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import Path, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from ..problems import Problem, too_large

Model = TypeVar("Model", bound=BaseModel)

JSON_BYTES_MAX = 512 * 1024
INTEGER_MAX = 2**63 - 1

TaskId = Annotated[int, Path(ge=1, le=INTEGER_MAX)]
Generation = Annotated[int, Path(ge=0, le=2**31 - 1)]


def declared_length(request: Request) -> int | None:
    """The Content-Length; None where there is none. Raises Problem 400."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise Problem(400, "BAD_LENGTH", "Content-Length is no number")
    return int(text)


async def limited(request: Request, what: str, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body in pieces. Raises Problem 413 at once where its declared length is over the limit, else as it passes."""
    declared = declared_length(request)
    if declared is not None and declared > limit_bytes:
        raise too_large(what, limit_bytes)
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit_bytes:
            raise too_large(what, limit_bytes)
        yield piece


async def read(request: Request, what: str, limit_bytes: int) -> bytes:
    """The whole body, at most `limit_bytes`. Raises Problem 413."""
    return b"".join([piece async for piece in limited(request, what, limit_bytes)])


async def read_json(request: Request, model: type[Model], limit_bytes: int = JSON_BYTES_MAX) -> Model:
    """The body as a `model`. Raises Problem 413, 422."""
    data = await read(request, "the body", limit_bytes)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise RequestValidationError(
            [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_context=False)]
        ) from error


def documented(model: type[BaseModel] | None = None) -> dict[str, Any]:
    """`openapi_extra` for a body that is read by hand: JSON of `model`, or bytes."""
    if model is None:
        content: dict[str, Any] = {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
        }
    else:
        content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
