"""One daemon for all tests of the command line; those that harm it bring their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.calling import Daemon, daemon_in


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with (
        pytest.MonkeyPatch.context() as patch,
        daemon_in(tmp_path_factory.mktemp("daemon"), patch) as running,
    ):
        yield running


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No daemon is known."""
    for name in ("HOSTLER_URL", "HOSTLER_TOKEN", "HOSTLER_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOSTLER_CLIENT_FILE", str(tmp_path / "no-client.json"))
