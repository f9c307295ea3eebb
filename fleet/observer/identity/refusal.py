"""What a machine must prove, and the ways in which it may fail to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Code(str, Enum):
    """Stable codes. Each is told to the machine and written into the event of the refusal."""

    MISSING = "IDENTITY_MISSING"
    MALFORMED = "IDENTITY_MALFORMED"
    FORGED = "IDENTITY_FORGED"
    WRONG_INSTANCE = "IDENTITY_WRONG_INSTANCE"
    REPLAYED = "IDENTITY_REPLAYED"
    EXPIRED = "IDENTITY_EXPIRED"
    UNVERIFIABLE = "IDENTITY_UNVERIFIABLE"
    """We lack what to check it with: a certificate, an authority, Google's keys."""
    NOT_KNOWN_YET = "INSTANCE_NOT_KNOWN_YET"
    """The machine was faster than the answer to its launch: it may ask again."""


class IdentityRefused(Exception):
    """The machine may not join. `retry`: the same request may succeed soon."""

    def __init__(self, code: Code, message: str, *, hint: str = "", retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.retry = retry


@dataclass(frozen=True, slots=True)
class Expected:
    """The instance that a join token stands for, as its row has it. Times are epoch seconds.

    `ref` and `identity` are None until the cloud's answer was recorded. `since`: no machine of this intent can have
    been started before; None where that is not known (imported instances).
    """

    instance_id: str
    workspace: str
    provider: str
    ref: str | None
    identity: str | None
    since: float | None

    def is_still(self, ref: str | None, identity: str | None) -> bool:
        """Whether the row, read again, is of the same instance. What was not known before may be known by now."""
        return ref == self.ref and self.identity in (None, identity)


def wrong(what: str, found: object, expected: object) -> IdentityRefused:
    """The document is genuine but of something else."""
    return IdentityRefused(
        Code.WRONG_INSTANCE, f"its identity says {what} {str(found)[:128]!r}, its launch was {expected}"
    )
