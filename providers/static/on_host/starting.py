"""Writing an instance down and starting its keeper."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .life import wait_for
from .machine import inventory, service
from .places import write

START_SECONDS_MAX = 5.0
PASSED_ON = (
    *(
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TMPDIR",
        "TZ",
        "USER",
    ),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
)
"""Of the session's environment: what a script started by hand would find."""
UNIT_PROPERTIES = ("Delegate=yes", "OOMPolicy=continue", "TasksMax=infinity", "LimitNOFILE=1048576")
"""The keeper's unit: tasks get cgroups of their own in it, and one that runs out of memory doesn't take it down."""


def write_down(root: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Everything its first process needs, made aside and renamed into place: from then on the instance exists."""
    aside = root / "instance.new"
    shutil.rmtree(str(aside), ignore_errors=True)
    told = inventory(request.get("machine") or {})
    aside.mkdir(mode=0o700)
    environ = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    kept = ("token", "server", "tags", "instance_type", "market", "digest")
    record = {**{name: request[name] for name in kept}, "launched_at": time.time(), "environ": environ}
    if told:
        write(aside / "inventory.json", told)
    write(aside / "user-data", request["user_data"].encode(), 0o700)
    write(aside / "program.py", (request["program"] + "\nsys.exit(keep(sys.argv[1]))\n").encode(), 0o700)
    write(aside / "record.json", record)
    aside.rename(root / "instance")
    return record


def start(root: Path, record: dict[str, Any]) -> str:
    """Start the keeper; two at once are no harm, for the second finds the life lock taken."""
    folder = root / "instance"
    command = [sys.executable, "-IS", str(folder / "program.py"), str(root)]
    if not start_service(command, record["token"]):
        with (folder / "console.log").open("ab") as console, Path(os.devnull).open("rb") as nothing:
            subprocess.Popen(
                command,
                cwd="/",
                stdin=nothing,
                stdout=console,
                stderr=console,
                start_new_session=True,
                close_fds=True,
            )
    return "running" if wait_for((folder / "started.json").exists, START_SECONDS_MAX) else "pending"


def start_service(command: list[str], token: str) -> bool:
    """As a transient unit; False where there is no systemd for us or it would not."""
    kind = service()
    if kind == "process":
        return False
    words = ["systemd-run", "--quiet", "--collect", "--unit=hostler-" + token]
    words += ["--property=" + one for one in UNIT_PROPERTIES]
    environ = dict(os.environ)
    if kind == "user":
        words.insert(1, "--user")
        environ["XDG_RUNTIME_DIR"] = f"/run/user/{os.geteuid()}"
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(
            words + command,
            check=False,
            env=environ,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
            timeout=START_SECONDS_MAX,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
