from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent.agent_process import AgentProcess
from agent.wire_server import WireServer


@pytest.fixture
def serve() -> Iterator[Callable[..., WireServer]]:
    """Start a server; given keyword arguments as WireServer takes them."""
    servers: list[WireServer] = []

    def start(**options: Any) -> WireServer:
        servers.append(WireServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Start an agent of a server; whatever it left running is killed at the end."""
    agents: list[AgentProcess] = []

    def start(server: WireServer, **options: Any) -> AgentProcess:
        agents.append(AgentProcess(tmp_path / f"home-{len(agents)}", server.url, **options))
        return agents[-1].start()

    yield start
    for agent in agents:
        agent.end()
