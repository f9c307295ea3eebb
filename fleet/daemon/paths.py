"""Where one daemon keeps everything that it must find again after a restart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CLIENT_FILE_VARIABLE = "HOSTLER_CLIENT_FILE"
"""Overrides where the client file lies; the CLI reads the same variable."""
PRIVATE_FOLDER_MODE = 0o700
LOCK_NAME = "daemon.lock"


@dataclass(frozen=True, slots=True)
class StatePaths:
    """Files and folders under one state folder, all absolute."""

    root: Path

    @property
    def admin_token(self) -> Path:
        return self.root / "admin.token"

    @property
    def server_key(self) -> Path:
        return self.root / "server.key"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"


def state_paths(data_dir: Path) -> StatePaths:
    """Create the state folder (readable by its owner only) and name what lies in it."""
    root = data_dir.expanduser().absolute()
    root.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER_MODE)
    return StatePaths(root)


def lock_path(state_file: Path | None, paths: StatePaths) -> Path:
    """Beside the database's file, wherever the rest of the state lies: the database is what two must not share."""
    folder = paths.root if state_file is None else state_file.expanduser().absolute().parent
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER_MODE)
    return folder / LOCK_NAME


def client_file_path(environ: dict[str, str] | None = None) -> Path:
    """Where the CLI of this user looks for the daemon's address and token."""
    environ = dict(os.environ) if environ is None else environ
    if named := environ.get(CLIENT_FILE_VARIABLE):
        return Path(named).expanduser().absolute()
    base = environ.get("XDG_CONFIG_HOME")
    folder = Path(base) if base else Path.home() / ".config"
    return folder.expanduser().absolute() / "hostler" / "client.json"
