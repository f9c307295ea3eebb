"""`queues:` - where tasks wait: for which pools, and in what order."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .fields import Duration, Name, Names, Settings, Whole, no_duplicates
from .limits import Spend
from .markets import Market

DEFAULT_PRIORITY = 50
Priority = Annotated[Whole, Field(le=100)]


class Queue(Settings):
    """Higher `priority` (0..100) goes first; pools are tried in order; `market` overrides the pool's."""

    pools: Annotated[Names, Field(min_length=1)]
    priority: Priority = DEFAULT_PRIORITY
    market: Market | None = None
    target_wait: Duration | None = None
    preempts: Annotated[tuple[Name, ...], AfterValidator(no_duplicates)] = ()
    budget: Spend | None = None
