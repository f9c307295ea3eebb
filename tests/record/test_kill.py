"""A writer that is killed under load: everything it acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hostler.tracking.server.database import Database
from hostler.tracking.server.database.schema import server
from record.world import Clock, crash_environment
from sqlalchemy import select, text

LOAD = """if True:
    import os, sys, threading
    from sqlalchemy import insert
    from hostler.tracking.server.database import Database
    from hostler.tracking.server.database.schema import server

    database = Database.open(f"sqlite:///{sys.argv[1]}", lambda: 0.0)

    def work(thread):
        number = 0
        while True:
            key = f"{sys.argv[2]}-{thread}-{number}"
            database.write(lambda conn: conn.execute(insert(server), {"key": key, "value": "x" * 100}) and None)
            os.write(1, key.encode() + b"\\n")
            number += 1

    for thread in range(8):
        threading.Thread(target=work, args=(thread,)).start()
"""


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    acknowledged: set[str] = set()
    for round_number in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", LOAD, str(path), str(round_number)],
            stdout=subprocess.PIPE,
            env=crash_environment(),
        )
        assert process.stdout is not None
        for _ in range(300 + 137 * round_number):
            acknowledged.add(process.stdout.readline().decode().strip())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().decode().split("\n")
        acknowledged.update(rest[:-1])  # the last one may be cut: it ends without a line end
        assert process.wait() == -signal.SIGKILL
    acknowledged.discard("")
    database = Database.open(f"sqlite:///{path}", Clock())
    with database.read() as conn:
        stored = set(conn.execute(select(server.c.key)).scalars())
        assert conn.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    database.close()
    assert len(acknowledged) > 1000
    assert acknowledged - stored == set()
