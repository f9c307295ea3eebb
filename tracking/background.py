"""Outside the fleet no agent carries our records: a thread does, as far as the server answers, and `sync` later."""

from __future__ import annotations

import json
import os
import random
import threading
from typing import Any, Dict, Optional

from . import wire
from .connection import Connection
from .errors import HostlerError, ServerRefused, ServerUnreachable
from .place import RUN_FILE, Server
from .upload import Uploader, is_final

PAUSE_SECONDS = 1.0
BACKOFF_SECONDS_MAX = 60.0
CREATE_SECONDS_MAX = 5.0
FINISH_FILE = "finish.json"
"""How the run ended; written when it does, so that a later `sync` can tell."""


def open_run(folder: str, server: Server, *, timeout_seconds: float = 30.0) -> tuple[wire.Run, Connection]:
    """Make the run on the server (or find it: its uid is the key) and a connection that speaks for it."""
    with open(os.path.join(folder, RUN_FILE), encoding="utf-8") as file:
        known: Dict[str, Any] = json.load(file)
    account = Connection(
        server.url, lambda: server.token, ca_file=server.ca_file, timeout_seconds=timeout_seconds
    )
    request = wire.NewRun(
        uid=known["uid"], project=known["project"], name=known["name"], tags=known["tags"], capture={}
    )
    try:
        run: wire.Run = account.json("POST", wire.CREATE, request)
    finally:
        account.close()
    return run, Connection(server.url, lambda: run["task_token"], ca_file=server.ca_file)


def sync(folder: str, server: Server) -> int:
    """Carry one run's folder to the server; returns its task id. Again is harmless."""
    run, connection = open_run(folder, server)
    try:
        Uploader(connection, folder, run["task_id"], run["generation"]).pass_once()
        tell_end(folder, run, connection)
    finally:
        connection.close()
    return run["task_id"]


def tell_end(folder: str, run: wire.Run, connection: Connection) -> None:
    """Close the run on the server if it has ended here."""
    try:
        with open(os.path.join(folder, FINISH_FILE), encoding="utf-8") as file:
            end = json.load(file)
    except FileNotFoundError:
        return
    path = wire.FINISH.format(task_id=run["task_id"], generation=run["generation"])
    connection.json("POST", path, {**end, "exit_code": 0 if end["state"] == "completed" else 1})


class Background:
    """The uploading thread of one run."""

    def __init__(self, folder: str, server: Server) -> None:
        self._folder = folder
        self._server = server
        self._stop = threading.Event()
        self._run: Optional[wire.Run] = None
        self._connection: Optional[Connection] = None
        self._uploader: Optional[Uploader] = None
        self._given_up = ""
        self._lock = threading.Lock()
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
            self._pass()
            assert self._run is not None and self._connection is not None
            tell_end(self._folder, self._run, self._connection)
        except (HostlerError, OSError) as error:
            return self._given_up or str(error)
        finally:
            if self._connection is not None:
                self._connection.close()
        return ""

    def task(self) -> Optional[wire.Run]:
        """The run on the server, made now if need be; None when the server does not answer quickly."""
        try:
            with self._lock:
                self._ensure_open(CREATE_SECONDS_MAX)
        except (HostlerError, OSError):
            return None
        return self._run

    def _work(self) -> None:
        failures = 0
        while not self._stop.wait(self._pause(failures)):
            try:
                self._pass()
                failures = 0
            except (ServerUnreachable, OSError):
                failures += 1
            except ServerRefused as error:
                failures += 1
                if is_final(error):
                    self._given_up = str(error)
                    return

    def _pause(self, failures: int) -> float:
        if not failures:
            return PAUSE_SECONDS
        return PAUSE_SECONDS + random.uniform(0, min(BACKOFF_SECONDS_MAX, 0.5 * 2 ** min(failures, 10)))  # noqa: S311

    def _pass(self) -> None:
        with self._lock:
            self._ensure_open(30.0)
            assert self._uploader is not None
            self._uploader.pass_once()

    def _ensure_open(self, timeout_seconds: float) -> None:
        if self._uploader is None:
            self._run, self._connection = open_run(
                self._folder, self._server, timeout_seconds=timeout_seconds
            )
            self._uploader = Uploader(
                self._connection, self._folder, self._run["task_id"], self._run["generation"]
            )
