"""Where things lie on a host, and how they are written so that a crash leaves all or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULT_HOME, DEFAULT_HOME_OF_ROOT = "~/.hostler", "/var/lib/hostler-host"


class Refused(Exception):
    """An answer that is no: `code` is one of in_use, other_parameters, home, gpus."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def root_of(request: dict[str, Any]) -> Path:
    """The folder of this host, made if need be. One a machine: home folders are often shared by many."""
    told = request.get("home") or (DEFAULT_HOME_OF_ROOT if os.geteuid() == 0 else DEFAULT_HOME)
    home = Path(told).expanduser()
    root = home / ("on-" + (platform.node() or "here"))
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "ended").mkdir(mode=0o700, exist_ok=True)
        found = root.lstat()
    except OSError as error:
        raise Refused("home", f"{root} can't be made: {error}") from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Refused("home", f"{root} must belong to {user_name()} and to nobody else")
    return root.resolve()


def user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    with (root / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty if there is none or it is broken."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, content: object, mode: int = 0o600) -> None:
    """All of it or nothing, whatever dies on the way."""
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(str(aside), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
