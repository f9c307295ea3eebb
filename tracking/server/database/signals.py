"""What the servers on one PostgreSQL tell each other: that events were written, that the loop is wanted.

A notice is sent after the commit and on a connection of its own: NOTIFY inside the transactions would make all their
commits wait for each other. One that is lost costs little: streams and agents look again by themselves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import URL

from .broadcast import Broadcaster
from .clock import ServerClock
from .postgres import IDLE_IN_READ_SECONDS, connect_arguments

CHANNEL: Final = "hostler"
EVENTS: Final = "events"
GAP_SECONDS: Final = 0.01
"""At most a hundred notices a second from one server, however many events it writes."""
LISTEN_SECONDS: Final = 2.0
"""The clock is compared this often, and the end noticed."""
AGAIN_SECONDS: Final = 1.0
LOOK_AGAIN_SECONDS: Final = 0.01

_log = logging.getLogger(__name__)


class Signals:
    """Two threads: one that listens, one that sends. `subscribe` and `send` are safe from any thread."""

    def __init__(self, url: URL, events_changed: Broadcaster, clock: ServerClock) -> None:
        self._url = url
        self._events_changed = events_changed
        self._clock = clock
        self._me = secrets.token_hex(8)
        self._topics: dict[str, Broadcaster] = {EVENTS: events_changed}
        self._waiting: set[str] = set()
        self._look_again = False
        self._wanted = threading.Condition()
        self._ended = False
        self._hearing: Any = None
        self._listening = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"hostler-{name}", daemon=True)
            for name, work in (("listen", self._listen), ("notify", self._notify))
        ]

    def start(self) -> None:
        """Begin to listen; returns when we do, or when it takes too long (it is tried again for ever)."""
        for thread in self._threads:
            thread.start()
        self._listening.wait(LISTEN_SECONDS)

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when another server sends `topic`; returns the function that ends it."""
        return self._topics.setdefault(topic, Broadcaster()).subscribe(callback)

    def send(self, topic: str) -> None:
        """Tell the other servers; returns at once. Many calls before it goes out are one."""
        with self._wanted:
            self._waiting.add(topic)
            self._wanted.notify()

    def look_again(self) -> None:
        """Wake our own readers of events once more in a moment."""
        with self._wanted:
            self._look_again = True
            self._wanted.notify()

    def close(self) -> None:
        with self._wanted:
            self._ended = True
            self._wanted.notify()
            _hang_up(self._hearing)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=LISTEN_SECONDS + AGAIN_SECONDS)

    def _connect(self, role: str) -> Any:
        import psycopg

        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, **connect_arguments(role, IDLE_IN_READ_SECONDS))

    def _listen(self) -> None:
        while not self._ended:
            try:
                with self._connect("listen") as conn:
                    conn.execute(f"LISTEN {CHANNEL}")
                    with self._wanted:
                        self._hearing = conn
                    if self._listening.is_set():
                        self._events_changed.tell()  # what was said while nobody listened
                    self._listening.set()
                    while not self._ended:
                        self._clock.compare(conn)
                        for notice in conn.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                            self._heard(notice.payload)
            except Exception as error:  # noqa: BLE001  whatever broke the connection, a new one is made
                if not self._ended:
                    _log.warning("nothing is heard from other servers now: %s", error)
                    time.sleep(AGAIN_SECONDS)

    def _heard(self, payload: str) -> None:
        topic, _, sender = payload.partition(" ")
        if sender != self._me and topic in self._topics:
            self._topics[topic].tell()

    def _notify(self) -> None:
        conn: Any = None
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._waiting or self._look_again or self._ended)
                if self._ended:
                    break
                topics, self._waiting = self._waiting, set()
                again, self._look_again = self._look_again, False
            conn = self._send(conn, topics)
            time.sleep(LOOK_AGAIN_SECONDS if again else GAP_SECONDS)
            if again:
                self._events_changed.tell()
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.close()

    def _send(self, conn: Any, topics: set[str]) -> Any:
        """The connection to go on with; None where it broke: the next notice makes a new one."""
        if not topics:
            return conn
        try:
            conn = conn or self._connect("notify")
            for topic in sorted(topics):
                conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{topic} {self._me}"))
        except Exception as error:  # noqa: BLE001  the others look again by themselves
            _log.warning("other servers could not be told of %s: %s", ", ".join(sorted(topics)), error)
            with contextlib.suppress(Exception):
                conn.close()
            return None
        return conn


def _hang_up(conn: Any) -> None:
    """End the wait of the thread that listens on `conn`: a connection may not be closed under another thread."""
    if conn is None or conn.closed:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(conn.fileno())) as its:
        its.shutdown(socket.SHUT_RDWR)
