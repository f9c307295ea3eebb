"""From an empty fleet to an empty fleet, on machines that run our user-data: only the cloud's hardware is made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from boot import system
from boot.aws_world import aws_world
from boot.story import live_through


@pytest.mark.slow
def test_a_task_outlives_its_machine(tmp_path: Path) -> None:
    with aws_world(tmp_path) as world:
        live_through(world, patience_seconds=120)


@pytest.mark.soak
@pytest.mark.root
@pytest.mark.timeout(1200)
def test_a_task_outlives_its_machine_where_cloud_init_and_systemd_boot_it(tmp_path: Path) -> None:
    """The first run builds the system (three minutes, 0.3 GB, kept in a cache); then some ten seconds a boot."""
    if missing := system.what_is_missing():
        pytest.skip(missing)
    image = system.built()
    with aws_world(tmp_path, make_machines=lambda *parts: system.Booted(*parts, image=image)) as world:
        live_through(world, patience_seconds=300)
        for machine in world.machines:
            asked = {one.path.rpartition("/")[2] for one in machine.metadata.requests}
            assert {"user-data", "token", "rsa2048", "instance-action"} <= asked
