"""What a run was made of: program, machine, git state, packages. Gathered off the training's path, never raised."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional

DIFF_BYTES_MAX = 256 * 1024
GIT_SECONDS_MAX = 10.0
PACKAGES_MAX = 5000


def gather() -> Dict[str, Any]:
    """All of it; a part that can't be had is left out."""
    parts: Dict[str, Callable[[], Any]] = {
        "argv": lambda: list(sys.argv),
        "cwd": os.getcwd,
        "python": platform.python_version,
        "platform": platform.platform,
        "hostname": platform.node,
        "cpus": os.cpu_count,
        "git": _git,
        "packages": _packages,
    }
    found: Dict[str, Any] = {}
    for name, part in parts.items():
        try:
            value = part()
        except Exception:  # noqa: BLE001, S112 - whatever it is, the training goes on without this part
            continue
        if value:
            found[name] = value
    return found


def _git() -> Optional[Dict[str, Any]]:
    commit = _run_git("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _run_git("diff", "HEAD") or ""
    untracked = (_run_git("ls-files", "--others", "--exclude-standard") or "").splitlines()
    return {
        "commit": commit,
        "branch": _run_git("rev-parse", "--abbrev-ref", "HEAD"),
        "remote": _without_password(_run_git("config", "--get", "remote.origin.url")),
        "diff": diff[:DIFF_BYTES_MAX],
        "diff_cut": len(diff) > DIFF_BYTES_MAX,
        "untracked": untracked[:PACKAGES_MAX],
    }


def _run_git(*words: str) -> Optional[str]:
    try:
        done = subprocess.run(
            ["git", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GIT_SECONDS_MAX,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _without_password(remote: Optional[str]) -> Optional[str]:
    """A remote may be https://user:secret@host/...: the secret stays here."""
    if remote and "://" in remote and "@" in remote.split("://", 1)[1].split("/", 1)[0]:
        scheme, rest = remote.split("://", 1)
        return f"{scheme}://{rest.split('@', 1)[1]}"
    return remote


def _packages() -> List[str]:
    from importlib import metadata

    names = {
        f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions() if one.metadata["Name"]
    }
    return sorted(names, key=str.lower)[:PACKAGES_MAX]
