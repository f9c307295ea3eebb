"""`type: static`: how hosts are told, what is assumed of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostler.config import ConfigError, FleetConfig
from hostler.config.agreement import is_elsewhere
from hostler.config.static import StaticHost, StaticProvider
from hostler.providers.static.where import Where

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGnmqAYzTJkyEdlJgDkD8bZ5nM9p6FyQ3a7o2V4D7l0X"
REACHABLE = "https://hostler.example.org"


def lab(*hosts: dict[str, Any], url: str = REACHABLE, **settings: Any) -> StaticProvider:
    provider = {"type": "static", "hosts": list(hosts), **settings}
    pools = {"work": {"providers": ["lab"], "instances": "0..4"}}
    fleet = FleetConfig.from_dict({"providers": {"lab": provider}, "pools": pools, "daemon": {"url": url}})
    section = fleet.providers["lab"]
    assert isinstance(section, StaticProvider)
    assert FleetConfig.from_dict(fleet.to_dict()) == fleet
    return section


def host(ssh: str, **settings: Any) -> StaticHost:
    return lab({"ssh": ssh, **settings}).hosts[0]


@pytest.mark.parametrize(
    ("ssh", "user", "address", "port", "name"),
    [
        ("gpu@lab-1", "gpu", "lab-1", 22, "lab-1"),
        ("gpu@10.0.0.7:2222", "gpu", "10.0.0.7", 2222, "10.0.0.7-2222"),
        ("root@[fe80::1]:23", "root", "fe80::1", 23, "fe80-1-23"),
        ("a.b@lab_1.example.org", "a.b", "lab_1.example.org", 22, "lab-1.example.org"),
    ],
)
def test_user_host_and_port_are_read_from_one_text(
    ssh: str, user: str, address: str, port: int, name: str
) -> None:
    found = host(ssh)
    assert (found.user, found.address, found.port, found.name) == (user, address, port, name)


def test_what_is_not_said_is_looked_up_later_and_the_price_is_nominal() -> None:
    section = lab({"ssh": "gpu@lab-1"})
    assert (section.hosts[0].gpus, section.hosts[0].cpus, section.hosts[0].memory) == (None, None, None)
    assert section.usd_per_hour == 0.001
    assert host("gpu@lab-1", gpus="none").gpus == ()


def test_a_host_says_for_itself_what_is_otherwise_said_for_all() -> None:
    section = lab(
        {"ssh": "gpu@lab-1", "host_key": KEY},
        {"ssh": "gpu@lab-2", "key_file": "/own", "home": "/data"},
        key_file="/all",
        known_hosts="~/known",
        home="/srv/hostler",
    )
    first, second = (Where.of(section, one) for one in section.hosts)
    assert (first.key_file, first.home, first.known_hosts, first.host_key) == (
        "/all",
        "/srv/hostler",
        "",
        KEY,
    )
    assert (second.key_file, second.home) == ("/own", "/data")
    assert second.known_hosts == str(Path.home() / "known")
    assert first.place != second.place


def test_a_key_is_filed_under_the_port_as_ssh_does() -> None:
    section = lab({"ssh": "gpu@lab-1"}, {"ssh": "gpu@lab-1:2222"})
    assert [Where.of(section, one).key_name for one in section.hosts] == ["lab-1", "[lab-1]:2222"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ssh": "lab-1"}, "doesn't have the form"),
        ({"ssh": "gpu@lab-1:99999"}, "has no port between 1 and 65535"),
        ({"ssh": "gpu@lab-1:0"}, "has no port between 1 and 65535"),
        ({"ssh": "gpu@lab-1; rm -rf /"}, "doesn't have the form"),
        ({"ssh": "gpu@lab-1", "gpus": "RTX4090:1|L4:1"}, "write the one kind it has"),
        ({"ssh": "gpu@lab-1", "gpus": "RTX4090:0.5"}, "write the one kind it has"),
        ({"ssh": "gpu@lab-1", "usd_per_hour": 0}, "a zero price is no price"),
        ({"ssh": "gpu@lab-1", "memory": 0}, "memory must be above 0"),
        ({"ssh": "gpu@lab-1", "host_key": "ssh-ed25519 short"}, "doesn't have the form"),
        ({"ssh": "gpu@lab-1", "host_key": KEY, "known_hosts": "/x"}, "write one of host_key and known_hosts"),
        ({"ssh": "gpu@lab-1", "home": "/a b"}, "doesn't have the form"),
        ({"ssh": "gpu@lab-1", "pasword": "x"}, "is not a known key"),
    ],
)
def test_a_host_that_makes_no_sense_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        lab(settings)


def test_hosts_are_told_apart_by_name_and_by_place() -> None:
    with pytest.raises(ConfigError, match="'lab-1' is there twice; give each host a name"):
        lab({"ssh": "gpu@lab-1"}, {"ssh": "root@lab-1"})
    with pytest.raises(ConfigError, match="is there twice; a host holds one instance"):
        lab({"ssh": "gpu@lab-1", "name": "a"}, {"ssh": "gpu@lab-1", "name": "b"})
    assert (
        len(lab({"ssh": "gpu@lab-1", "name": "a"}, {"ssh": "gpu@lab-1", "name": "b", "home": "/b"}).hosts)
        == 2
    )


def test_hosts_elsewhere_need_a_url_that_they_can_reach_and_this_machine_does_not() -> None:
    with pytest.raises(ConfigError, match="instances of provider 'lab' can't reach"):
        lab({"ssh": "gpu@lab-1"}, url="http://127.0.0.1:8480")
    assert not is_elsewhere(lab({"ssh": "gpu@127.0.0.1:2222"}, url="http://127.0.0.1:8480"))
    assert is_elsewhere(lab({"ssh": "gpu@127.0.0.1"}, {"ssh": "gpu@lab-1"}))
