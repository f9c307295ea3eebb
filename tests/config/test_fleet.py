"""fleet.yaml: what each section accepts, its defaults, and where sections contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostler.config import ConfigError, FleetConfig, GpuWish, Range
from hostler.config.agreement import accepts
from hostler.config.aws import AwsProvider
from hostler.config.local import LocalOffer, LocalProvider
from hostler.config.pools import OfferFilter

LOCAL = {"type": "local", "max_instances": 4}
AWS = {"type": "aws", "regions": ["us-east-1"]}
REACHABLE = {"url": "https://hostler.example.org"}


def fleet(**sections: Any) -> FleetConfig:
    """A fleet of one local provider and one pool, with `sections` in place of theirs."""
    given = {"providers": {"here": LOCAL}, "pools": {"work": {"providers": ["here"]}}, **sections}
    return FleetConfig.from_dict(given)


def pool(**settings: Any) -> FleetConfig:
    return fleet(pools={"work": {"providers": ["here"], **settings}})


def aws(**settings: Any) -> AwsProvider:
    provider = fleet(providers={"here": {**AWS, **settings}}, daemon=REACHABLE).providers["here"]
    assert isinstance(provider, AwsProvider)
    return provider


def test_defaults_are_those_of_the_protocols() -> None:
    daemon = fleet().daemon
    assert (daemon.tick, daemon.lease_ttl, daemon.heartbeat) == (10.0, 60.0, 15.0)
    assert (daemon.bootstrap_timeout, daemon.orphan_grace, daemon.dead_man) == (600.0, 300.0, 900.0)
    assert daemon.url == "http://127.0.0.1:8480"
    assert daemon.data_dir == Path(".hostler")


def test_data_lie_beside_the_state() -> None:
    daemon = fleet(daemon={"state": "sqlite:////var/lib/hostler/state.db"}).daemon
    assert daemon.state_path() == Path("/var/lib/hostler/state.db")
    assert daemon.data_dir == Path("/var/lib/hostler")


def test_a_wildcard_address_is_dialled_on_loopback() -> None:
    assert fleet(daemon={"listen": "0.0.0.0:9000"}).daemon.url == "http://127.0.0.1:9000"
    assert fleet(daemon={"listen": "[::]:9000"}).daemon.url == "http://[::1]:9000"


def test_tls_makes_the_url_https() -> None:
    daemon = fleet(daemon={"tls": {"cert": "a.pem", "key": "b.pem"}}).daemon
    assert daemon.url == "https://127.0.0.1:8480"
    with pytest.raises(ConfigError, match="url must start with https://"):
        fleet(daemon={"tls": {"cert": "a.pem", "key": "b.pem"}, "url": "http://x:1"})


def test_without_queues_there_is_one_over_all_pools() -> None:
    one = fleet(pools={"b": {"providers": ["here"]}, "a": {"providers": ["here"]}})
    assert {name: queue.pools for name, queue in one.queues.items()} == {"default": ("b", "a")}


def test_a_pool_holds_plain_values() -> None:
    settings = fleet(
        providers={"here": AWS},
        daemon=REACHABLE,
        pools={
            "work": {
                "providers": ["here"],
                "offers": [{"gpu": "A10G|L4", "count": "1..4"}, {"gpu": "A100-80GB", "count": 8}],
                "market": "spot_first",
                "fallback": {"to": "on_demand", "after": "10m", "max_share": "25%"},
                "instances": "0..20",
                "max_age": "24h",
                "disk": "200GB",
            }
        },
    ).pools["work"]
    assert settings.offers[0].gpu == (GpuWish("A10G", 1.0), GpuWish("L4", 1.0))
    assert settings.offers[0].gpu_counts() == Range(1, 4)
    assert settings.offers[1].gpu_counts() == Range(8, 8)
    assert settings.fallback is not None
    assert (settings.fallback.after, settings.fallback.max_share) == (600.0, 0.25)
    assert (settings.max_age, settings.disk, settings.instances) == (86_400.0, 200 * 10**9, Range(0, 20))


def test_a_fleet_survives_the_trip_through_json() -> None:
    one = pool(
        warm=[{"cron": "0 9 * * mon-fri", "until": "0 18 * * mon-fri", "tz": "America/New_York", "min": 2}]
    )
    assert FleetConfig.from_dict(one.to_dict()) == one


def test_a_fleet_can_not_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        fleet().daemon.tick = 3.0  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("daemon", "said"),
    [
        ({"tick": 10}, "daemon.tick: 10 has no unit; write 10s"),
        ({"tick": "1h"}, "tick must be between 50ms and 1m"),
        ({"tick": 0}, "tick must be between"),
        ({"listen": "8480"}, "'8480' is not an address; write host:port"),
        ({"listen": "localhost:99999"}, "port 99999 is above 65535"),
        ({"state": "state.db"}, "is not a database URL"),
        ({"state": "sqlite://"}, "is not a database URL"),
        ({"state": "postgresql+psycopg://db"}, "is not a database URL"),
        ({"state": "postgresql+asyncpg://db/x"}, "is not a database URL"),
        ({"url": "hostler.example.org"}, "is not a URL"),
        ({"lease_ttl": "10s", "heartbeat": "9s"}, "at most half of lease_ttl"),
        ({"lease_ttl": "1h"}, "dead_man"),
        ({"max_body": "1KB"}, "max_body must be at least 64KiB"),
        ({"bootstrap_timeout": 0}, "bootstrap_timeout must be above 0"),
        ({"tls": {"cert": "a"}}, "daemon.tls.key: is missing"),
        ({"cors": "*"}, "daemon.cors: is not a known key"),
        ([], "daemon: must be a mapping of keys, not a list"),
    ],
)
def test_a_bad_daemon_section_is_refused(daemon: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("+", r"\+")):
        fleet(daemon=daemon)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"instances": "5..2"}, "the range 5..2 is empty"),
        ({"instances": "2.."}, "2.. has no upper end; write one, such as 2..20, or set limits.instances"),
        ({"instances": "5..6"}, "at least 5 are kept, but max_instances of its providers allows 4"),
        ({"market": "spot_first"}, "market spot_first needs fallback"),
        ({"fallback": {"to": "spot"}}, "fallback.to: 'spot' doesn't have the form"),
        ({"max_age": 0}, "max_age must be above 0"),
        ({"spread": {"zones": 0}}, "spread.zones: must be at least 1, not 0"),
        ({"providers": []}, "providers: needs at least 1 entries"),
        (
            {"providers": ["her"]},
            r"pools.work.providers\[0\]: 'her' is not one of here \(did you mean 'here'",
        ),
        ({"providers": ["here", "here"]}, "'here' is listed twice"),
        ({"offers": [{"gpu": "none", "count": 2}]}, "gpu: none has none"),
        ({"offers": [{"gpu": "L4", "count": 0}]}, "count 0 matches nothing"),
        ({"offers": [{"gpu": "L4:2"}]}, "how many a machine has goes in count"),
        ({"offers": [{"gpu": "L5"}]}, "'L5' is not a GPU we know"),
        ({"offers": [{"gpu": "L4"}]}, r"offers\[0\]: matches no offer of its providers \(local\)"),
        ({"offers": [{"cpus": "1..4"}]}, "lower bounds here"),
        ({"warm": [{"cron": "0 9 * *", "until": "0 18 * * *", "min": 1}]}, "cron needs 5"),
        ({"warm": [{"cron": "0 9 * * *", "until": "0 9 * * *", "min": 1}]}, "never open"),
        (
            {"warm": [{"cron": "0 9 * * *", "until": "0 18 * * *", "min": 11}]},
            "warm min 11 is more than instances",
        ),
        (
            {"warm": [{"cron": "0 9 * * *", "until": "0 18 * * *", "min": 1, "tz": "Europe/Berln"}]},
            r"not a time zone \(did you mean 'Europe/Berlin'",
        ),
    ],
)
def test_a_bad_pool_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pool(**settings)


def test_a_pool_whose_market_nobody_sells_is_refused() -> None:
    offers = [{"name": "small", "cpus": 1, "memory": "1GiB", "market": "on_demand"}]
    with pytest.raises(ConfigError, match=r"pools\.work\.market: no offer of its providers is sold as spot"):
        fleet(
            providers={"here": {**LOCAL, "offers": offers}},
            pools={"work": {"providers": ["here"], "market": "spot"}},
        )


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"limits": {"instances": 2}}, "the pools keep at least 3 instances"),
        ({"limits": {"usd_per_hour": 0}}, "0 allows no instance"),
        ({"limits": {"instances": -1}}, "must be at least 0, not -1"),
        ({"limits": {"instances": True}}, "true is not a number"),
        ({"limits": {"usd_per_hour": "12 EUR"}}, "is not an amount of money"),
        ({"queues": {"default": {"pools": ["wrok"]}}}, r"'wrok' is not one of work \(did you mean 'work'"),
        ({"queues": {"default": {"pools": ["work"], "market": "spot_first"}}}, "spot_first needs a fallback"),
        ({"queues": {"a b": {"pools": ["work"]}}}, "'a b' is not a name"),
        ({"queues": {}}, "queues: needs at least 1 entries"),
        (
            {"providers": {"here": {"type": "lokal"}}},
            r"type: 'lokal' is not one of local, .* \(did you mean 'local'",
        ),
        ({"providers": {"here": {}}}, "type is missing; say what it is"),
    ],
)
def test_sections_that_contradict_each_other_are_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fleet(**{"pools": {"work": {"providers": ["here"], "instances": "3..4"}}, **sections})


def test_cloud_instances_must_be_able_to_reach_the_daemon() -> None:
    with pytest.raises(
        ConfigError, match=r"daemon\.url: instances of provider 'here' can't reach http://127"
    ):
        fleet(providers={"here": AWS})
    fleet(providers={"here": {**AWS, "endpoint_url": "http://127.0.0.1:5000"}})


def test_a_local_provider_without_offers_sells_one_size_on_both_markets() -> None:
    provider = fleet(
        providers={"here": {**LOCAL, "cpus": 2, "memory": "4GiB", "gpus": "L4:1"}},
        pools={"work": {"providers": ["here"], "offers": [{"gpu": "L4"}]}},
    ).providers["here"]
    assert isinstance(provider, LocalProvider)
    sold = [(offer.name, offer.market, offer.cpus, offer.memory, offer.gpu) for offer in provider.catalogue()]
    gpu = (GpuWish("L4", 1.0),)
    assert sold == [("local", "spot", 2, 4 * 2**30, gpu), ("local", "on_demand", 2, 4 * 2**30, gpu)]
    assert all(offer.usd_per_hour > 0 for offer in provider.catalogue())


OFFER = {"name": "a", "cpus": 1, "memory": "1GiB"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"offers": [{**OFFER, "usd_per_hour": 0}]}, "a zero price is no price"),
        ({"offers": [{**OFFER, "memory": 0}]}, "memory must be above 0"),
        ({"offers": [{**OFFER, "gpu": "L4|T4"}]}, "one kind of GPU"),
        ({"offers": [{**OFFER, "gpu": "L4:0.5"}]}, "whole GPUs"),
        ({"offers": [OFFER, OFFER]}, "'a' is there twice in market on_demand"),
        ({"gpus": "L4:0.5"}, "write one kind and a whole number"),
        ({"cpus": 0}, "must be at least 1, not 0"),
    ],
)
def test_a_bad_local_provider_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fleet(
            providers={"here": {**LOCAL, **settings}},
            pools={"work": {"providers": ["here"], "market": "on_demand"}},
        )


def test_what_belongs_to_a_region_is_found_by_region() -> None:
    one = aws(subnets=["subnet-1a"], security_groups="sg-1", image={"id": "ami-1"})
    assert (one.subnets_in("us-east-1"), one.security_groups_in("us-east-1")) == (("subnet-1a",), ("sg-1",))
    assert one.image_id("us-east-1") == "ami-1"
    two = aws(regions=["us-east-1", "eu-west-1"], subnets={"eu-west-1": ["subnet-2b"]})
    assert (two.subnets_in("us-east-1"), two.subnets_in("eu-west-1")) == ((), ("subnet-2b",))
    assert two.image.ssm is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"regions": []}, "needs at least 1 entries"),
        ({"regions": ["us-east"]}, "is not an AWS region"),
        ({"regions": ["us-east-1a"]}, "is a zone; the region is 'us-east-1'"),
        ({"regions": ["us-east-1", "us-east-1"]}, "listed twice"),
        ({"regions": ["us-east-1", "us-east-2"], "subnets": ["subnet-1"]}, "subnets belongs to one region"),
        ({"subnets": {"eu-west-1": ["subnet-1"]}}, "'eu-west-1', which is not in regions"),
        ({"subnets": ["sg-1"]}, "must look like subnet-"),
        ({"image": {}}, "exactly one of id, ssm, filter; found nothing"),
        ({"image": {"id": "ami-1", "ssm": "/x"}}, "found id and ssm"),
        (
            {"regions": ["us-east-1", "us-east-2"], "image": {"id": {"us-east-1": "ami-1"}}},
            "no image for us-east-2",
        ),
        ({"auth": {"access_key_env": "A"}}, "go together"),
        ({"auth": {"profile": "a", "access_key_env": "A", "secret_key_env": "B"}}, "not both"),
        ({"auth": {"role_arn": "admin"}}, "doesn't have the form"),
        ({"auth": {"external_id": "x"}}, "external_id needs role_arn"),
        ({"instance_typs": ["g5.*"]}, "did you mean 'instance_types'"),
    ],
)
def test_a_bad_aws_provider_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        aws(**settings)


@pytest.mark.parametrize(
    ("entry", "accepted"),
    [
        ({}, {"plain", "l4", "t4"}),
        ({"gpu": "none"}, {"plain"}),
        ({"gpu": "L4"}, {"l4"}),
        ({"gpu": "L4|T4"}, {"l4", "t4"}),
        ({"gpu": "L4|T4", "count": "2.."}, {"t4"}),
        ({"count": "1.."}, {"l4", "t4"}),
        ({"cpus": "4.."}, {"l4", "t4"}),
        ({"memory": "16GiB"}, {"t4"}),
        ({"instance_types": ["p*", "t?"]}, {"plain", "t4"}),
    ],
)
def test_a_filter_accepts_what_it_says(entry: dict[str, Any], accepted: set[str]) -> None:
    offers = [
        LocalOffer.model_validate({"name": "plain", "cpus": 1, "memory": "1GiB"}),
        LocalOffer.model_validate({"name": "l4", "cpus": 4, "memory": "8GiB", "gpu": "L4:1"}),
        LocalOffer.model_validate({"name": "t4", "cpus": 8, "memory": "16GiB", "gpu": "T4:2"}),
    ]
    wanted = OfferFilter.model_validate(entry)
    assert {offer.name for offer in offers if accepts(wanted, offer)} == accepted
