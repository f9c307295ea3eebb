"""Errors of the SDK. None is raised by `log`: recording never breaks a training run."""

from __future__ import annotations

from typing import Any, Dict, Optional


class HostlerError(Exception):
    """Base of all that the SDK raises on purpose."""


class NoRun(HostlerError):
    """No run is open in this process: call hostler.init() first."""


class ServerUnreachable(HostlerError):
    """The server did not answer in time. What was logged is safe on disk; see the message for where."""


class ServerRefused(HostlerError):
    """The server answered with an error that trying again won't mend."""

    def __init__(
        self, status: int, code: str, message: str, problem: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.problem = problem or {}


class Damaged(HostlerError):
    """Bytes that came back don't have the checksum they were stored under; nothing was kept."""


class Refused(HostlerError):
    """An argument can't be used as it is; the message says what to do."""
