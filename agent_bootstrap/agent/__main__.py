"""`python agent.pyz`: join the fleet and work. Its folder is HOSTLER_HOME or where the zipapp lies."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from ... import __version__
from ...tracking.client import CallFailed, Client
from .. import wire
from . import archive, inventory, joining, notice, settings
from .clock import now
from .home import DEFAULT_HOME, Home
from .inventory import BadInventory
from .loop import Agent
from .runner import Tools
from .slots import Slots
from .spare import Spares

EXIT_USAGE = 2
EXIT_NOT_JOINED = 3
DESCRIPTION = """The hostler agent: joins the fleet with the join token in its folder, leases tasks and runs them.
SIGTERM ends the agent and leaves its tasks running; the next agent in the same folder goes on with them.
With HOSTLER_SIGTERM=preempt (a pod) SIGTERM is the preemption notice instead: tasks are stopped, then it leaves."""
_POWER_OFF = (["systemctl", "poweroff"], ["shutdown", "-h", "now"], ["poweroff"])
_logger = logging.getLogger("hostler.agent")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    home = Home(options.home.resolve())
    if options.drain:
        home.drain_flag.touch()
        return 0
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        home.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        told = settings.load(home, os.environ)
        lock = _only_one(home)
    except (settings.NotConfigured, ValueError, OSError) as error:
        sys.stderr.write(f"hostler-agent: {error}\n")
        return EXIT_USAGE
    with lock:
        return _serve(home, told)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hostler-agent", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"hostler-agent {__version__}")
    parser.add_argument("--home", type=Path, default=_default_home(), help="the agent's folder (%(default)s)")
    parser.add_argument(
        "--drain", action="store_true", help="ask the agent that runs in this folder to finish and leave"
    )
    return parser


def _default_home() -> Path:
    told = os.environ.get("HOSTLER_HOME")
    if told:
        return Path(told)
    zipapp = Path(__file__).parents[3]
    return zipapp.parent if zipapp.is_file() else Path(DEFAULT_HOME)


def _only_one(home: Home) -> IO[bytes]:
    """Two agents in one folder would both claim its tasks. Raises ValueError."""
    lock = home.lock.open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ValueError(f"another agent runs in {home.path}") from error
    return lock


def _serve(home: Home, told: settings.Settings) -> int:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    try:
        machine = inventory.take(home.path, told.inventory_file)
    except BadInventory as error:
        sys.stderr.write(f"hostler-agent: {error}\n")
        return EXIT_USAGE
    joined = joining.resume(home) or _join(home, told, machine, over)
    if joined is None:
        if told.machine and not over.is_set():
            _power_off()
        return 0 if over.is_set() else EXIT_NOT_JOINED
    credential = joining.Credential(home, joined)
    client = Client(told.url, credential.current, ca_file=home.ca_file())
    library = archive.library(home.path)
    tools = Tools(
        home=home,
        settings=told,
        client=client,
        slots=Slots(machine, joined),
        spares=Spares(library),
        library=library,
        commands=archive.commands(home.path),
        over=over,
    )
    _logger.info("instance %s at %s", joined["instance_id"], told.url)
    watchers = notice.watchers(told, os.environ)
    _hear_notices_by_signal(watchers)
    return Agent(tools, credential, watchers, rng=random.Random(), power_off=_power_off).run()  # noqa: S311


def _hear_notices_by_signal(watchers: list[notice.Watcher]) -> None:
    """In a pod SIGTERM takes the tasks too: it is the notice that the machine goes, not the end of the agent alone."""
    for watcher in watchers:
        if isinstance(watcher, notice.SignalWatcher):
            signal.signal(signal.SIGTERM, watcher.signalled)


def _join(
    home: Home, told: settings.Settings, machine: wire.Inventory, over: threading.Event
) -> wire.Joined | None:
    client = Client(told.url, lambda: "", ca_file=home.ca_file())
    end = now() + told.dead_man_seconds
    try:
        return joining.join(home, told, client, machine, lambda pause: over.wait(pause) or now() > end)
    except (joining.JoinFailed, CallFailed) as error:
        if not over.is_set():
            _logger.error("can't join: %s", error)  # noqa: TRY400 - the reason is in the message
            joining.report_failure(home, client, "join", str(error))
        return None
    finally:
        client.close()


def _power_off() -> None:
    """Switch the machine off: it costs money and serves nobody."""
    for words in _POWER_OFF:
        try:
            if subprocess.run(words, check=False).returncode == 0:
                return
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main())
