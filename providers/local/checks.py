"""What `hostler doctor` says of a local provider."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..base import Check
from . import processes

MIN_FREE_BYTES = 2**30


def look_at(root: Path) -> Sequence[Check]:
    """Checks that start no instance."""
    return (_processes(), _shell(), _folder(root), _disk(root))


def _processes() -> Check:
    seen = processes.read(os.getpid()) if processes.PROC.is_dir() else None
    ok = seen is not None and hasattr(os, "pidfd_open")
    return Check(
        "processes", ok, "/proc and pidfd" if ok else "no /proc or pidfd here", "" if ok else "use Linux 5.3+"
    )


def _shell() -> Check:
    found = Path("/bin/sh").exists()
    return Check("shell", found, "/bin/sh", "" if found else "install a POSIX shell as /bin/sh")


def _folder(root: Path) -> Check:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        return Check("folder", ok=False, detail=str(error), hint=f"let the daemon's user write to {root}")
    return Check("folder", ok=True, detail=str(root))


def _disk(root: Path) -> Check:
    there = next((path for path in (root, *root.parents) if path.exists()), Path("/"))
    free_bytes = shutil.disk_usage(there).free
    ok = free_bytes >= MIN_FREE_BYTES
    detail = f"{free_bytes / 2**30:.1f} GiB free at {there}"
    return Check("disk", ok, detail, "" if ok else "free some space, or set root to a larger disk")
