"""How the CLI of the same user finds this daemon."""

from __future__ import annotations

import json
from pathlib import Path

from .private_file import write_private


def write_client_file(path: Path, *, url: str, token_file: Path) -> None:
    """Point the CLI at this daemon: JSON with `url` and `token_file`; the token itself stays where it is."""
    content = {"url": url, "token_file": str(token_file)}
    write_private(path, json.dumps(content, indent=2).encode() + b"\n")
