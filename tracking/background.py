"""Outside the fleet no agent carries our records: a thread does, as far as the server answers, and `sync` later."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from . import wire
from .client import RETRYABLE, CallFailed, Client, backoff_seconds
from .feeds import ArtifactFeed, JournalFeed, Paths
from .place import FINISH_FILE, RUN_FILE, Server

PAUSE_SECONDS = 1.0
QUICK_SECONDS = 5.0
"""How long a training run may be held up by asking the server for its own number."""
SENT_FILE = "sent.json"


class Carrier:
    """One run's folder and the run on the server that its records go to."""

    def __init__(self, folder: str, server: Server, *, timeout_seconds: float = 30.0) -> None:
        """Make the run on the server, or find it: its uid is the key. Raises CallFailed."""
        with open(os.path.join(folder, RUN_FILE), encoding="utf-8") as file:
            known: Dict[str, Any] = json.load(file)
        self._folder = folder
        self.client = Client(server.url, lambda: server.token, ca_file=server.ca_file)
        request = wire.NewRun(
            uid=known["uid"], project=known["project"], name=known["name"], tags=known["tags"], capture={}
        )
        try:
            run: wire.Run = self.client.post(wire.CREATE, request, timeout_seconds=timeout_seconds)
        except BaseException:
            self.client.close()
            raise
        self.run = run
        self.client.close()
        self.client = Client(server.url, lambda: run["task_token"], ca_file=server.ca_file)
        paths, out = Paths(run["task_id"], run["generation"]), Path(folder)
        feeds = (ArtifactFeed(self.client, paths, out, out / SENT_FILE), JournalFeed(self.client, paths, out))
        self._steps: tuple[Callable[[], bool], ...] = tuple(feed.step for feed in feeds)

    def carry(self) -> None:
        """Send all that is there now. Raises CallFailed."""
        for step in self._steps:
            while step():
                pass

    def tell_end(self) -> None:
        """Close the run on the server if it has ended here. Raises CallFailed."""
        try:
            with open(os.path.join(self._folder, FINISH_FILE), encoding="utf-8") as file:
                end = json.load(file)
        except FileNotFoundError:
            return
        path = wire.FINISH.format(task_id=self.run["task_id"], generation=self.run["generation"])
        self.client.post(path, {**end, "exit_code": 0 if end["state"] == "completed" else 1})


def sync(folder: str, server: Server) -> int:
    """Carry one run's folder to the server; returns its task id. Again is harmless. Raises CallFailed."""
    carrier = Carrier(folder, server)
    try:
        carrier.carry()
        carrier.tell_end()
    finally:
        carrier.client.close()
    return carrier.run["task_id"]


class Background:
    """The uploading thread of one run."""

    def __init__(self, folder: str, server: Server) -> None:
        self._folder = folder
        self._server = server
        self._stop = threading.Event()
        self._carrier: Optional[Carrier] = None
        self._given_up = ""
        self._lock = threading.Lock()
        self._rng = random.Random()  # noqa: S311 - jitter
        self._thread = threading.Thread(target=self._work, name="hostler-upload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_seconds: float) -> str:
        """Send what is left and close the run; returns '' or why the rest stays on disk for `hostler sync`."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return "the server is slow"
        try:
            carrier = self._pass()
            carrier.tell_end()
            carrier.client.close()
        except (CallFailed, OSError) as error:
            return self._given_up or str(error)
        return ""

    def task(self) -> Optional[wire.Run]:
        """The run on the server, made now if need be; None when the server does not answer quickly."""
        try:
            with self._lock:
                return self._open(QUICK_SECONDS).run
        except (CallFailed, OSError):
            return None

    def _work(self) -> None:
        failures = 0
        while not self._stop.wait(
            PAUSE_SECONDS + (backoff_seconds(failures, self._rng) if failures else 0.0)
        ):
            try:
                self._pass()
                failures = 0
            except (*RETRYABLE, OSError):
                failures += 1
            except CallFailed as error:  # it will never take more of this run
                self._given_up = str(error)
                return

    def _pass(self) -> Carrier:
        with self._lock:
            carrier = self._open(30.0)
            carrier.carry()
            return carrier

    def _open(self, timeout_seconds: float) -> Carrier:
        if self._carrier is None:
            self._carrier = Carrier(self._folder, self._server, timeout_seconds=timeout_seconds)
        return self._carrier
