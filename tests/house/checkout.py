"""The checkout as the tests here see it: what belongs to it, and a copy of it under another name."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("agent_bootstrap", "config", "fleet", "providers", "tracking")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def files() -> list[Path]:
    """Paths relative to the root of all that git would commit, whether it is committed yet or not."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted({Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()})


def shipped_files(root: Path = ROOT) -> list[Path]:
    """What a wheel must hold: the five folders and the two files that make the root a package."""
    present = (
        files() if root == ROOT else [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    )
    inside = [path for path in present if path.parts[0] in FOLDERS]
    return sorted([Path("__init__.py"), Path("py.typed"), *inside])


def copy_to(target: Path) -> Path:
    for path in files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path, follow_symlinks=False)
    return target


def old_python_files() -> list[Path]:
    """What runs in the user's process or on the user's machine: the SDK, the agent, their messages."""
    sdk = [*(ROOT / "tracking").glob("*.py"), ROOT / "__init__.py"]
    wire = [ROOT / "agent_bootstrap" / "__init__.py", ROOT / "agent_bootstrap" / "wire.py"]
    on_host = (ROOT / "providers" / "static" / "on_host").glob("*.py")
    return sorted([*sdk, *wire, *on_host, *(ROOT / "agent_bootstrap" / "agent").rglob("*.py")])
