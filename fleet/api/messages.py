"""Bodies of the agent's protocol, checked against the messages that `agent_bootstrap/wire.py` describes once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import NoneType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ...tracking.server.problems import Problem

T = TypeVar("T")
_CONFIG = ConfigDict(extra="ignore", allow_inf_nan=False)
"""Unknown keys pass: a newer agent may say more. NaN never does: it would compare false with every limit."""


def body_of(message: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A FastAPI dependency that reads one TypedDict. Raises RequestValidationError (422) and Problem 400."""
    model = model_of(message)

    async def read(request: Request) -> T:
        raw = await request.body()
        try:
            data = json.loads(raw or b"{}")
        except ValueError as error:
            raise Problem(
                400, "NOT_JSON", "The body is not JSON", detail=str(error), hint="send JSON"
            ) from None
        try:
            return cast("T", model.model_validate(data).model_dump(exclude_unset=True))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None

    return read


def model_of(message: type) -> type[BaseModel]:
    """The pydantic model of a TypedDict (pydantic itself takes the standard library's only from 3.12 on)."""
    hints = get_type_hints(message)
    required = getattr(message, "__required_keys__", frozenset(hints))
    fields: dict[str, Any] = {
        name: (_converted(hint), ... if name in required else None) for name, hint in hints.items()
    }
    model: type[BaseModel] = create_model(message.__name__, __config__=_CONFIG, **fields)
    return model


def _converted(hint: Any) -> Any:
    """`hint` with TypedDicts replaced by their models, inside lists, dicts and Optional too."""
    if is_typeddict(hint):
        return model_of(hint)
    origin, parts = get_origin(hint), tuple(_converted(part) for part in get_args(hint))
    if origin is Union:
        return Union[parts]  # noqa: UP007  made at run time from a tuple
    if origin in (list, dict):
        return origin[parts]
    return NoneType if hint is None else hint
