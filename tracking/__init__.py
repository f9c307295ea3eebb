"""The SDK: `init log log_artifact checkpoint restore`. Standard library only; never in the way of a training run.

Every call goes to a journal on local disk first (`tracking/journal.py`). Under an agent the agent carries it to the
server; elsewhere a thread of ours does while the server answers, and `hostler sync` afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from . import session
from .errors import (
    Damaged,
    HostlerError,
    NoRun,
    Refused,
    ServerRefused,
    ServerUnreachable,
)
from .run import Artifact, Run

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Artifact",
    "Damaged",
    "HostlerError",
    "NoRun",
    "Refused",
    "Run",
    "ServerRefused",
    "ServerUnreachable",
    "checkpoint",
    "init",
    "log",
    "log_artifact",
    "restore",
]


def init(
    project: Optional[str] = None,
    name: Optional[str] = None,
    *,
    config: Any = None,
    tags: Sequence[str] = (),
    group: Optional[str] = None,
    resume: str = "auto",
    mode: str = "auto",
    capture: str = "default",
) -> Run:
    """Open this process's run, or give back the one that is open.

    Args:
        project: where the run belongs; "default" if not said.
        name: the run's name; the program's if not said.
        config: parameters: a mapping, nested as you like, or an argparse namespace.
        tags: words to find the run by.
        group: name that runs of one study share.
        resume: "auto", "never", or the uid of a run to go on with outside the fleet.
        mode: "auto", "online", "offline" (carry it later by `hostler sync`), "disabled" (records nowhere).
        capture: "default" takes git state, packages and host along; "none" does not.

    Raises:
        Refused: an argument can't be used as it is.
    """
    return session.open_run(project, name, config, tags, group, resume, mode, capture)


def log(
    data: Mapping[str, Any],
    step: Optional[int] = None,
    *,
    context: Optional[Mapping[str, Any]] = None,
    time: Optional[float] = None,
) -> None:
    """Record metrics of the open run: {name: number}. Never waits for the network, never raises but NoRun."""
    session.current().log(data, step, context=context, time=time)


def log_artifact(
    obj: Any,
    name: Optional[str] = None,
    *,
    type: str = "file",  # noqa: A002 - the contract's name
    aliases: Sequence[str] = (),
    metadata: Optional[Mapping[str, Any]] = None,
) -> Artifact:
    """Record a file or folder (by path) or a dict or list (as JSON) under a name. Raises Refused, HostlerError."""
    return session.current().log_artifact(obj, name, type=type, aliases=aliases, metadata=metadata)


def checkpoint(path: Any, *, step: Optional[int] = None, keep: int = 3) -> Artifact:
    """Publish a file or folder as the newest checkpoint, whole or not at all; the newest `keep` are kept."""
    return session.current().checkpoint(path, step=step, keep=keep)


def restore(*, to: Any = None) -> Optional[Path]:
    """The newest complete checkpoint of any attempt of this task, brought to `to`; None when there is none.

    Raises:
        ServerUnreachable: the server stayed silent for minutes; starting over would lose work.
        Damaged: what came back doesn't have its checksum.
    """
    return session.restore(to)
