"""What stays of ended instances: listed for a while, then their logs, then nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from .folder import Folder

LISTED_SECONDS = 900.0
"""How long an ended instance is still listed as TERMINATED, so that every reader sees it end."""
KEPT_ENDED = 50
"""Of how many that are no longer listed the logs are kept for a person to read."""
EVIDENCE = ("instance.json", "ended.json", "*.log")
_TRASH = ".trash-"


def is_listed(folder: Folder, now: float) -> bool:
    end = folder.end()
    return end is None or now - end.at < LISTED_SECONDS


def forget_old(root: Path, folders: Iterable[Folder], now: float) -> None:
    """Remove what is past its time. The caller holds the lock over all local instances."""
    for left in root.glob(f"{_TRASH}*"):
        shutil.rmtree(left, ignore_errors=True)
    ended = [(end.at, folder) for folder in folders if (end := folder.end()) is not None]
    old = sorted(((at, folder) for at, folder in ended if now - at >= LISTED_SECONDS), key=lambda one: one[0])
    surplus = max(0, len(old) - KEPT_ENDED)
    for _, folder in old[:surplus]:
        _remove(root, folder.path)
    for _, folder in old[surplus:]:
        _strip(folder.path)


def _remove(root: Path, path: Path) -> None:
    # Renamed first: a half-removed folder must not be read as an instance.
    trash = root / f"{_TRASH}{path.name}"
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _strip(path: Path) -> None:
    for entry in path.iterdir():
        if any(entry.match(pattern) for pattern in EVIDENCE):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
