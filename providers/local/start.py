"""Starting an instance's first process, once in its life, whatever dies on the way.

The life lock is taken here and inherited by the new process before it runs anything. So at any later moment: lock
held = it lives or is just being started; lock free and `started` there = it has lived; neither = it never ran, and
starting it (again) is safe. Whoever calls holds the lock over all local instances.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from ..base import Gpu, LaunchRequest
from . import processes
from .folder import PRIVATE_FILE, Folder

PASSED_ON = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LOGNAME", "SHELL", "TMPDIR", "TZ", "USER"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
"""All that an instance gets of the daemon's environment: cloud keys and tokens of the daemon stay with it."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOCK_ATTEMPTS = 100
LOCK_PAUSE_SECONDS = 0.005
GPU_NAMESPACE = uuid.UUID("6c1b8f0e-35d1-4c0e-9a38-0f6f5d0c3a11")
_FIRST_COMMAND = 'echo $$ >"$HOSTLER_HOME/started" || exit 71; exec sh "$HOSTLER_HOME/user-data"'
"""The mark is the new process's own first deed: a daemon killed just before or after the fork can't get it wrong."""


def start(folder: Folder) -> subprocess.Popen[bytes] | None:
    """Run the folder's user-data in a session of its own; None if it runs, has run, or has been given up."""
    if folder.started.exists() or folder.doom() is not None:
        return None
    life = os.open(folder.life_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        # Between the first look and the lock, a process that was just being started may have lived and died.
        if not _take(life, folder) or folder.started.exists():
            return None
        return _spawn(folder, life)
    finally:
        os.close(life)


def _take(life: int, folder: Folder) -> bool:
    """Lock `life`; False when a process holds it. Those who only look hold it too, but for microseconds."""
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(life, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if folder.started.exists():
                return False
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _spawn(folder: Folder, life: int) -> subprocess.Popen[bytes]:
    console = os.open(folder.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        started = subprocess.Popen(
            ["/bin/sh", "-c", _FIRST_COMMAND],
            cwd=folder.path,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            pass_fds=(life,),
        )
    finally:
        os.close(console)
    first = processes.read(started.pid)
    if first is not None:
        folder.write_first(first.pid, first.start_ticks)
    return started


def environment(folder: Folder) -> dict[str, str]:
    """What the user-data script sees; the daemon's own interpreter comes first, as on an image made for it."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {
        "HOSTLER_CLOUD": "local",
        "HOSTLER_HOME": str(folder.path),
        "HOSTLER_INVENTORY": str(folder.inventory),
        "HOSTLER_LOCAL": "1",
        "HOSTLER_NOTICE_FILE": str(folder.notice),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH') or SYSTEM_PATH}",
    }


def inventory(token: str, request: LaunchRequest, free_disk_bytes: int) -> bytes:
    """JSON of what the agent shall report as its machine; GPUs get UUIDs that no real one bears."""
    gpu = request.offer.gpu
    machine = {
        "cpus": int(request.offer.cpus),
        "memory_bytes": request.offer.memory_bytes,
        "disk_bytes": request.disk_bytes or free_disk_bytes,
        "gpus": [] if gpu is None else [_imitated(gpu, f"{token}/{index}") for index in range(gpu.count)],
    }
    return json.dumps(machine, sort_keys=True).encode()


def _imitated(gpu: Gpu, seed: str) -> dict[str, object]:
    made_up = f"GPU-{uuid.uuid5(GPU_NAMESPACE, seed)}"
    return {"uuid": made_up, "name": gpu.name, "memory_bytes": gpu.memory_bytes}
