"""`make demo`: real training on a fleet that grows from nothing, loses a machine, and shrinks to nothing.

Starts a daemon of its own on loopback with a fresh state folder, submits twelve trainings through the CLI, takes one
instance away in mid-task as a cloud would take back a spot machine, and checks every thing that it shows.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from checks import check_all, print_table
from daemon import Daemon, DemoFailed
from rich.console import Console
from story import tell

STATE = Path(".demo")


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    daemon = Daemon(STATE.resolve())
    try:
        daemon.start()
        console.print("daemon up on an empty fleet; submitting")
        seen = tell(daemon, console)
        promises = check_all(daemon, seen)
        print_table(daemon, seen, console)
        for promise in promises:
            console.print(f"[green]ok[/]  {promise}")
    except DemoFailed as failure:
        console.print(f"[red]the demo failed:[/] {failure}", highlight=False)
        return 1
    finally:
        daemon.stop()
    console.print(f"done in {time.monotonic() - began:.0f} s; `make up` starts a daemon to keep")
    return 0


if __name__ == "__main__":
    sys.exit(main())
