"""Several daemons as real processes on one PostgreSQL."""

from __future__ import annotations

from api.daemons import FLEET, DaemonProcess
from api.serving import wait_until
from hostler.fleet.store import leader
from hostler.tracking.server.database import Database

LEASE_TTL = "8s"
"""Of tasks; the lead lasts a quarter of it."""
PATIENCE_SECONDS = 90.0


def fleet_yaml(url: str, shared_folder: str) -> str:
    """All daemons with this text share the database and the state folder: key, blobs and the local cloud."""
    return (
        FLEET.replace('"sqlite:///{folder}/state/state.db"', f'"{url}"\n  data_dir: {shared_folder}')
        .replace("lease_ttl: 30s", f"lease_ttl: {LEASE_TTL}")
        .replace("idle_timeout: 2s", "idle_timeout: 1m")
    )


def lead(database: Database) -> leader.Lease | None:
    with database.read() as conn:
        return leader.read(conn)


def leads(database: Database, daemon: DaemonProcess) -> bool:
    """Whether this process holds a lease that is not over."""
    found = lead(database)
    assert daemon.process is not None
    return found is not None and found.seconds_left > 0 and found.holder.endswith(f":{daemon.process.pid}")


def wait_for_lead(database: Database, daemon: DaemonProcess) -> None:
    wait_until(lambda: leads(database, daemon), PATIENCE_SECONDS)
