"""The command line: `hostler`. Each group of commands is a small file; all of them speak REST to the daemon."""

from __future__ import annotations

import sys

NEEDED = frozenset({"httpx", "pydantic", "rich", "ruamel", "tenacity", "typer"})
"""What the commands import beyond the SDK; `pip install hostler` alone doesn't bring it."""


def main() -> None:
    """Entry point of the `hostler` script; ends the process with one of `exit_codes.ExitCode`."""
    try:
        from .program import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        sys.stderr.write(f"error: {error.name} is not installed\nhint: pip install 'hostler[daemon]'\n")
        sys.exit(1)
    sys.exit(run(sys.argv[1:]))
