"""From a task's folder to the record: log, journal, artifacts, each at its own pace.

Nothing here blocks the task: it writes files, these threads read them. Where each feed goes on after a restart the
server says: a chunk that it has already is answered with how far it got.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ...tracking.client import RETRYABLE, CallFailed, Client, Conflict, Unauthorized
from ...tracking.feeds import ArtifactFeed, JournalFeed, LogFeed, Paths
from .clock import now
from .home import TaskFolder

POLL_SECONDS = 0.2
PAUSE_SECONDS_MAX = 15.0

_logger = logging.getLogger(__name__)


class Uploads:
    """The three feeds of one task, each on a thread of its own."""

    def __init__(
        self,
        client: Client,
        folder: TaskFolder,
        task_id: int,
        generation: int,
        *,
        on_stale: Callable[[], None],
    ) -> None:
        paths = Paths(task_id, generation)
        feeds = (
            LogFeed(client, paths, folder.log),
            JournalFeed(client, paths, folder.out),
            ArtifactFeed(client, paths, folder.out, folder.sent),
        )
        self._client = client
        self._on_stale = on_stale
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._feed,
                args=(type(feed).__name__, feed.step),
                name=f"{type(feed).__name__}-{task_id}",
                daemon=True,
            )
            for feed in feeds
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, deadline: float) -> bool:
        """Send the rest, until `deadline` by `clock.now`. False if something had to be left behind."""
        self._ending.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - now()))
        done = not any(thread.is_alive() for thread in self._threads)
        self.abandon()
        return done

    def abandon(self) -> None:
        """Send nothing more."""
        self._abandoned.set()
        self._ending.set()

    def _feed(self, name: str, step: Callable[[], bool]) -> None:
        failures = 0
        while not self._abandoned.is_set():
            ending = self._ending.is_set()  # read before the step: what it finds empty then stays empty
            try:
                moved = step()
                failures = 0
            except Conflict:
                self._on_stale()
                return
            except (*RETRYABLE, Unauthorized) as error:
                self._abandoned.wait(self._client.pause_after(error, failures, PAUSE_SECONDS_MAX))
                failures += 1
                continue
            except (CallFailed, OSError, ValueError, KeyError, TypeError) as error:
                _logger.warning("%s gives up: %s", name, error)
                return
            if not moved and ending:
                return
            if not moved:
                self._ending.wait(POLL_SECONDS)
