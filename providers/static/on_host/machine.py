"""What kind of machine a host is, and what its agent shall say of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .places import Refused, user_name

SMI_SECONDS_MAX = 20.0
MEBIBYTE = 1024**2
SYSTEMD = Path("/run/systemd/system")


def memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def gpus() -> list[dict[str, Any]]:
    """What nvidia-smi lists; empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SMI_SECONDS_MAX
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.decode(errors="replace").splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[2].isdigit():
            found.append({"uuid": fields[0], "name": fields[1], "memory_bytes": int(fields[2]) * MEBIBYTE})
    return found


def inventory(machine: dict[str, Any]) -> dict[str, Any]:
    """What the agent shall say instead of looking: only what fleet.yaml told. Fewer GPUs than that are a refusal."""
    told = {name: machine[name] for name in ("cpus", "memory_bytes") if machine.get(name)}
    count = machine.get("gpus")
    if count is not None:
        found = gpus() if count else []
        if count > len(found):
            raise Refused("gpus", f"it should have {count} GPUs, and nvidia-smi lists {len(found)}")
        told["gpus"] = found[:count]
    return told


def service() -> str:
    """How a keeper is started here: systemd (root), user (systemd of a lingering user) or process."""
    if not SYSTEMD.is_dir() or shutil.which("systemd-run") is None:
        return "process"
    if os.geteuid() == 0:
        return "systemd"
    lingers = Path("/var/lib/systemd/linger", user_name()).exists()
    bus = Path(f"/run/user/{os.geteuid()}/bus").exists()
    # Without lingering a user's services end with the user's last session: ours, in a moment.
    return "user" if lingers and bus else "process"
