"""The daemon as far as it decides anything: database, leadership, tick, API functions. It can be stopped dead."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from ...config.fleet import FleetConfig
from ...providers.base import Provider
from ...tracking.server.blobs import Blobs
from ..api.state import AppState, Zipapp
from ..loop.context import Context
from ..loop.tick import TickReport, tick
from ..queue import Dispatcher
from ..store import leader
from .clock import VirtualTime
from .database import Disk, SimDatabase
from .door import Door, door_of
from .ledger import Ledger

T = TypeVar("T")

SERVER_ID = "srv-sim"
WORKSPACE = "default"


class StoppedDead(BaseException):
    """The power is gone: nothing after this line happens, whatever catches exceptions."""


class Inline:
    """Calls to clouds run in the caller, one after the other."""

    def submit(self, fn: Callable[[], T], /) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn())
        except Exception as error:  # noqa: BLE001  the future carries it
            future.set_exception(error)
        return future


class Live:
    """The configuration in force, as the API reads it."""

    def __init__(self, fleet: FleetConfig, clouds: Mapping[str, Provider], now: float) -> None:
        self.fleet = fleet
        self.source = "simulation"
        self.loaded_at = now
        self._clouds = clouds

    def apply(self, text: str, source: str) -> Sequence[str]:
        raise ValueError(f"the configuration of a simulation does not change ({source}: {len(text)} bytes)")

    def providers(self) -> Mapping[str, Provider]:
        return self._clouds

    def broken_providers(self) -> Mapping[str, str]:
        return {}


class Server:
    """One life of the daemon, on the file that its last life left."""

    def __init__(
        self,
        path: Path,
        *,
        fleet: FleetConfig,
        clouds: Mapping[str, Provider],
        time: VirtualTime,
        rng: random.Random,
        disk: Disk,
        ledger: Ledger,
        whole_api: bool,
        checkpoint: Callable[[str], None],
    ) -> None:
        self.db = SimDatabase(path, time, disk)
        self._ledger = ledger
        self._time = time
        self._fleet, self._clouds, self._rng = fleet, clouds, rng
        self._checkpoint = checkpoint
        self.context = self.lead("daemon")
        self.door: Door = door_of(self._state(path), whole=whole_api)

    def lead(self, holder: str) -> Context:
        """Take the leadership and give what a leader's ticks are made of."""
        now = self._time.now
        epoch = self.db.write(lambda conn: leader.take(conn, holder, now))
        self._ledger.leads.append(epoch)
        self._ledger.led_since = now
        return Context(
            db=self.db,
            fleet=lambda: self._fleet,
            providers=self._clouds,
            clock=self._time,
            rng=self._rng,
            server_id=SERVER_ID,
            epoch=epoch,
            calls=Inline(),
            render_user_data=lambda instance_id, token, _provider: f"{instance_id} {token}",
            join_token=join_token,
            started_at=now,
            workspace=WORKSPACE,
            checkpoint=self._checkpoint,
        )

    def refresh_offers(self) -> None:
        """What the daemon does off its ticks, every few minutes."""
        self.context.offers.refresh(self.context.effects, self._clouds)

    def tick(self, context: Context | None = None) -> TickReport:
        return tick(context or self.context)

    def close(self) -> None:
        self.door.close()
        self.db.close()

    def _state(self, path: Path) -> AppState:
        return AppState(
            database=self.db,
            clock=self._time,
            config=Live(self._fleet, self._clouds, self._time.now),
            blobs=Blobs(path.parent / "blobs", self.db),
            dispatcher=Dispatcher(),
            zipapp=Zipapp.of(b"simulated"),
            server_id=SERVER_ID,
            version="0",
            wake_loop=_asleep,
            started_at=self._time.now,
        )


def join_token(instance_id: str) -> str:
    """As the daemon derives it: nothing secret has to be stored."""
    return hashlib.sha256(b"simulated key" + instance_id.encode()).hexdigest()


def _asleep() -> None:
    """Ticks come at their times."""
