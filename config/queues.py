"""`queues:` - where tasks wait: for which pools, and in what order."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .fields import NOT_A_BOOL, Duration, Name, Names, Settings, no_duplicates
from .limits import Spend
from .markets import Market

DEFAULT_PRIORITY = 50
Priority = Annotated[int, Field(ge=0, le=100), NOT_A_BOOL]


class Queue(Settings):
    """Higher `priority` (0..100) goes first; pools are tried in order; `market` overrides the pool's."""

    pools: Names
    priority: Priority = DEFAULT_PRIORITY
    market: Market | None = None
    target_wait: Duration | None = None
    preempts: Annotated[tuple[Name, ...], AfterValidator(no_duplicates)] = ()
    budget: Spend | None = None
