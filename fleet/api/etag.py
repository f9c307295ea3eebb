"""ETag and If-Match: a change made on top of an old reading is refused, not merged."""

from __future__ import annotations

from ...tracking.server.problems import Problem

ANY = "*"


def etag_of(version: int) -> str:
    """The strong tag of a row's version."""
    return f'"{version}"'


def require_match(if_match: str | None, version: int) -> None:
    """Raises Problem 412 unless `if_match` is absent, `*`, or names `version`."""
    if if_match is None:
        return
    wanted = {part.strip() for part in if_match.split(",")}
    if ANY in wanted or etag_of(version) in wanted:
        return
    raise Problem(
        412,
        "CHANGED_MEANWHILE",
        "It was changed since you read it",
        detail=f"If-Match names {if_match}, it is at {etag_of(version)} now",
        hint="read it again and repeat your change with its new ETag",
    )


def is_known(if_none_match: str | None, version: int) -> bool:
    """Whether the reader has this version already and 304 is enough."""
    if if_none_match is None:
        return False
    known = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return ANY in known or etag_of(version) in known
