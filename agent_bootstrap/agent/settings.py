"""What the bootstrap script tells the agent: settings.json in its folder; the environment wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...tracking.files import read_json
from .home import Home

DEAD_MAN_SECONDS = 900.0
LOG_HEAD_BYTES = 60 * 1024**2
LOG_TAIL_BYTES = 4 * 1024**2
SIGTERM_SECONDS = 30.0
"""What Kubernetes gives a pod between SIGTERM and SIGKILL unless the pod says otherwise."""


class NotConfigured(Exception):
    """The agent was not told its server: set HOSTLER_URL or write settings.json with `url` into HOSTLER_HOME."""


@dataclass(frozen=True)
class Settings:
    """`cloud` is aws, gcp, azure or empty; `local` means a process of the local provider, never a machine."""

    url: str
    cloud: str = ""
    local: bool = False
    machine: bool = False
    """Whether the whole machine is the agent's, to switch off when it has no use any more."""
    dead_man_seconds: float = DEAD_MAN_SECONDS
    inventory_file: str = ""
    notice_file: str = ""
    sigterm_seconds: float | None = None
    """Seconds between SIGTERM and the end where SIGTERM is the preemption notice (in a pod), else None."""
    log_head_bytes: int = LOG_HEAD_BYTES
    log_tail_bytes: int = LOG_TAIL_BYTES


def load(home: Home, environ: Mapping[str, str]) -> Settings:
    """Raises NotConfigured, ValueError (a number that is none)."""
    written = read_json(home.settings)
    told = written if isinstance(written, dict) else {}
    url = environ.get("HOSTLER_URL") or str(told.get("url", ""))
    if not url:
        raise NotConfigured(NotConfigured.__doc__)
    return Settings(
        url=url.rstrip("/"),
        cloud=environ.get("HOSTLER_CLOUD", str(told.get("cloud", ""))),
        local=environ.get("HOSTLER_LOCAL") == "1",
        machine=environ.get("HOSTLER_MACHINE") == "1" and environ.get("HOSTLER_LOCAL") != "1",
        dead_man_seconds=float(
            environ.get("HOSTLER_DEAD_MAN_SECONDS") or told.get("dead_man_seconds") or DEAD_MAN_SECONDS
        ),
        inventory_file=environ.get("HOSTLER_INVENTORY", ""),
        notice_file=environ.get("HOSTLER_NOTICE_FILE", ""),
        sigterm_seconds=_sigterm_seconds(environ),
        log_head_bytes=int(environ.get("HOSTLER_LOG_HEAD_BYTES", LOG_HEAD_BYTES)),
        log_tail_bytes=int(environ.get("HOSTLER_LOG_TAIL_BYTES", LOG_TAIL_BYTES)),
    )


def _sigterm_seconds(environ: Mapping[str, str]) -> float | None:
    if environ.get("HOSTLER_SIGTERM") != "preempt":
        return None
    return float(environ.get("HOSTLER_SIGTERM_SECONDS") or SIGTERM_SECONDS)
