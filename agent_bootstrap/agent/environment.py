"""What a task finds in its environment."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from ..wire import Lease
from .home import Home, TaskFolder

RESERVED = "HOSTLER_"
"""Variables of ours: neither the agent's own nor ones that a task brings along get through."""
SHELLS = ("sh", "/bin/sh", "bash", "/bin/bash")
SHELL_TRAP = "trap 'exit 143' TERM; "
"""A shell without it dies of SIGTERM at once and its command is killed in mid-checkpoint; with it, it waits for the
command and then runs nothing more."""


def command(run: object) -> tuple[list[str], bool]:
    """The words to execute, and whether that is a shell of ours that waits for what it runs."""
    words = ["sh", "-c", run] if isinstance(run, str) else [str(word) for word in run or []]  # type: ignore[attr-defined]
    shell = len(words) == 3 and words[0] in SHELLS and words[1] == "-c"
    return ([*words[:2], SHELL_TRAP + words[2]] if shell else words), shell


def of_task(
    lease: Lease,
    folder: TaskFolder,
    home: Home,
    *,
    url: str,
    inherited: Mapping[str, str],
    library: Path | None,
    commands: Path,
    visible_devices: str | None,
) -> dict[str, str]:
    environ = {name: value for name, value in inherited.items() if not name.startswith(RESERVED)}
    environ.setdefault("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    environ["PYTHONUNBUFFERED"] = "1"
    told = lease["spec"].get("environ") or {}
    environ.update({str(name): str(value) for name, value in told.items() if not name.startswith(RESERVED)})
    environ["PATH"] = _joined(environ.get("PATH") or os.defpath, commands)
    if library:
        environ["PYTHONPATH"] = _joined(environ.get("PYTHONPATH", ""), library)
    if visible_devices is not None:
        environ["CUDA_VISIBLE_DEVICES"] = visible_devices
    ca_file = home.ca_file()
    if ca_file:
        environ["HOSTLER_CA_FILE"] = ca_file
    return {**environ, **_ours(lease, folder, url)}


def _ours(lease: Lease, folder: TaskFolder, url: str) -> dict[str, str]:
    return {
        "HOSTLER_TASK_ID": str(lease["task_id"]),
        "HOSTLER_ATTEMPT": str(lease["attempt"]),
        "HOSTLER_GENERATION": str(lease["generation"]),
        "HOSTLER_URL": url,
        "HOSTLER_TOKEN_FILE": str(folder.token),
        "HOSTLER_IN": str(folder.inputs),
        "HOSTLER_OUT": str(folder.out),
        "HOSTLER_STOP_FILE": str(folder.stop_file),
    }


def _joined(paths: str, last: Path) -> str:
    return os.pathsep.join([*filter(None, [paths]), str(last)])
