"""`make demo`: real training on a fleet that grows from nothing, loses a machine, and shrinks to nothing.

Starts a daemon of its own on loopback with a fresh state folder, submits twelve trainings through the CLI, takes one
instance away in mid-task as a cloud would take back a spot machine, and checks every thing that it shows.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from pathlib import Path

from checks import check_all, print_table
from daemon import Daemon, DemoFailed
from rich.console import Console
from story import tell

STATE = Path(".demo")
FONT_DOWNLOAD = re.compile(r"@font-face {.*?}", re.DOTALL)
"""A picture in a README has nothing to fetch: the viewer's own monospace font will do."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Show the whole path on this machine, and check what is shown."
    )
    parser.add_argument("--picture", type=Path, help="also draw the end of it into this SVG file")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    daemon = Daemon(STATE.resolve())
    try:
        daemon.start()
        console.print("daemon up on an empty fleet; submitting")
        seen = tell(daemon, console)
        console.print()
        promises = check_all(daemon, seen)
        # The live view redraws itself; its last frame and what follows are what a picture wants.
        ending = Console(width=110, record=True) if args.picture else console
        print_table(daemon, seen, ending)
        for promise in promises:
            ending.print(f"[green]ok[/]  {promise}")
    except DemoFailed as failure:
        console.print(f"[red]the demo failed:[/] {failure}", highlight=False)
        return 1
    finally:
        daemon.stop()
    if args.picture:
        picture = ending.export_svg(title="make demo")
        args.picture.write_text(FONT_DOWNLOAD.sub("", picture))
    console.print(f"done in {time.monotonic() - began:.0f} s; `make up` starts a daemon to keep")
    return 0


if __name__ == "__main__":
    sys.exit(main())
