"""The import contracts catch what they are there for: one seeded trespass each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from house import checkout

TRESPASSES = {
    "Folders point one way": ("config/trespass.py", "from ..fleet import planning\n"),
    "Inside fleet": ("fleet/planning/trespass.py", "from .. import store\n"),
    "Planning takes values": ("fleet/planning/late.py", "import time\n"),
    "The agent is standard library only": ("agent_bootstrap/agent/trespass.py", "import httpx\n"),
    "The SDK is standard library only": ("tracking/__init__.py", "\nimport pydantic\n"),
    "Only the control plane sees": ("tracking/trespass.py", "from .server import access\n"),
}


def test_every_contract_reports_its_trespass(tmp_path: Path) -> None:
    clone = checkout.copy_to(tmp_path / "clone")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "hostler").symlink_to(clone)
    for name, line in TRESPASSES.values():
        with (clone / name).open("a") as file:
            file.write(line)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        check=False,
        capture_output=True,
        text=True,
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "200"},
    )
    contracts = [line for line in done.stdout.splitlines() if line.endswith((" KEPT", " BROKEN"))]
    kept = [line for line in contracts if line.endswith(" KEPT")]
    assert [len(contracts), kept] == [len(TRESPASSES), []], done.stdout + done.stderr
    assert all(any(line.startswith(name) for line in contracts) for name in TRESPASSES)
