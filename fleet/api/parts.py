"""What nearly every route takes: who asks, the parts of the server, and the size of a page."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Header, Query

from ...tracking.server.access import Principal, principal
from ...tracking.server.problems import Problem
from .state import AppState, state_of

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 500

State = Annotated[AppState, Depends(state_of)]
Who = Annotated[Principal, Depends(principal)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="rows of one page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=1024)]
IfMatch = Annotated[str | None, Header(description="the ETag you read; 412 if it has changed since")]
IfNoneMatch = Annotated[str | None, Header(description="the ETag you have; 304 if it is still the one")]
IdempotencyKey = Annotated[
    str | None,
    Header(description="the same key again answers the first answer, for 24 hours", max_length=128),
]


def not_found(noun: str, name: object, hint: str) -> Problem:
    """404 for one thing by its name or id."""
    return Problem(404, "NOT_FOUND", f"There is no {noun} {name}", detail=f"no {noun} {name} here", hint=hint)
