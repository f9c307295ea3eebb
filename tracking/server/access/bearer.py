"""From a request's `Authorization: Bearer` to a Principal; a short memory spares most requests the database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request

from ..problems import Problem
from . import tokens
from .rules import Principal

CACHE_SECONDS = 5.0
"""A revoked token works at most so long after."""
CACHE_MAX = 20_000


class PrincipalCache:
    """Principals by the hash of their secret; the oldest makes room. Safe between threads."""

    def __init__(self, entries_max: int = CACHE_MAX) -> None:
        self._entries: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._entries_max = entries_max
        self._lock = threading.Lock()

    def get(self, key: str, now: float) -> Principal | None:
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or not 0 <= now - entry[0] < CACHE_SECONDS:
            return None
        expires_at = entry[1].expires_at
        return None if expires_at is not None and expires_at <= now else entry[1]

    def put(self, key: str, found: Principal, now: float) -> None:
        with self._lock:
            self._entries[key] = (now, found)
            self._entries.move_to_end(key)
            while len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)


async def principal(request: Request) -> Principal:
    """FastAPI dependency: who asks. Raises Problem 401. Reads `app.state.database` and `app.state.clock`."""
    secret = bearer_secret(request)
    state = request.app.state
    now = state.clock()
    cache = _cache_of(request)
    key = tokens.hash_of(secret)
    found = cache.get(key, now)
    if found is None:
        found = await state.database.read_async(lambda conn: tokens.authenticate(conn, secret, now))
        if found is None:
            raise unauthenticated("the token is unknown, expired or revoked")
        cache.put(key, found, now)
    return found


Caller = Annotated[Principal, Depends(principal)]
"""What a route declares to learn who asks."""


def bearer_secret(request: Request) -> str:
    """The secret in the Authorization header. Raises Problem 401."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise unauthenticated("there is no bearer token")
    return secret.strip()


def unauthenticated(detail: str) -> Problem:
    return Problem(
        401,
        "UNAUTHENTICATED",
        "who are you?",
        detail,
        "send `Authorization: Bearer <token>`; the server writes the first one to admin.token beside its state",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _cache_of(request: Request) -> PrincipalCache:
    state = request.app.state
    cache = getattr(state, "principals", None)
    if not isinstance(cache, PrincipalCache):
        cache = state.principals = PrincipalCache()
    return cache
