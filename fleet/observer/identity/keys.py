"""Google's public keys: fetched when needed, kept for a while, or read from a file where there is no way out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

import httpx
import jwt

from .refusal import Code, IdentityRefused

GOOGLE_KEYS_URL: Final = "https://www.googleapis.com/oauth2/v3/certs"
KEPT_SECONDS: Final = 3_600.0
FETCHED_AGAIN_SECONDS: Final = 60.0
"""A key id that we don't know is looked for at most so often: made-up ids must not make us hammer Google."""
TIMEOUT_SECONDS: Final = 10.0

Fetch = Callable[[str], bytes]


class FetchFailed(Exception):
    """The keys did not come."""


def fetch_over_http(url: str) -> bytes:
    """Raises FetchFailed."""
    try:
        return httpx.get(url, timeout=TIMEOUT_SECONDS).raise_for_status().content
    except httpx.HTTPError as error:
        raise FetchFailed(f"{url}: {error}") from error


class Keys:
    """The keys that `fetch(url)` gives, by their ids. Thread-safe; `monotonic` is in seconds."""

    def __init__(self, url: str, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._failure = ""

    def get(self, key_id: str) -> jwt.PyJWK | None:
        """None: Google has no such key. Raises IdentityRefused (UNVERIFIABLE) when we have none to look among."""
        with self._lock:
            age = None if self._fetched_at is None else self._monotonic() - self._fetched_at
            limit = KEPT_SECONDS if key_id in self._keys else FETCHED_AGAIN_SECONDS
            if age is None or age >= limit:
                self._refresh()
            if not self._keys:
                raise IdentityRefused(
                    Code.UNVERIFIABLE,
                    f"Google's keys can't be had: {self._failure}",
                    hint="let the daemon reach www.googleapis.com, or save the keys in a file and name it under "
                    "identity_trust of the provider",
                    retry=True,
                )
            return self._keys.get(key_id)

    def _refresh(self) -> None:
        """Old keys stay good while new ones can't be had."""
        try:
            self._keys = read_keys(self._fetch(self._url))
            self._failure = ""
        except (FetchFailed, jwt.PyJWTError, ValueError) as error:
            self._failure = str(error)
        self._fetched_at = self._monotonic()


def read_keys(data: bytes) -> Mapping[str, jwt.PyJWK]:
    """A JSON Web Key Set. Raises ValueError, jwt.PyJWTError."""
    found = jwt.PyJWKSet.from_json(data.decode("utf-8"))
    return {one.key_id: one for one in found.keys if one.key_id}
