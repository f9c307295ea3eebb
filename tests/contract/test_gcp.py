"""What is Compute Engine's own: the call's body, operations, endings, labels, pages, offers, prices, credentials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract.gcp_harness import ZONE, GcpHarness
from contract.harness import running, state_of
from emulators.gcp import goods
from emulators.gcp.cloud import PERMISSIONS
from hostler.config import parse_fleet
from hostler.config.gcp import GcpProvider as Section
from hostler.providers import registry
from hostler.providers.base import (
    TAG_INTENT,
    TAG_POOL,
    TAG_SERVER,
    AuthFailed,
    CloudState,
    Gpu,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    Market,
    Offer,
    ProviderContext,
    ProviderError,
    QuotaExceeded,
    Scope,
    Unavailable,
)
from hostler.providers.gcp.adapter import GcpProvider
from hostler.providers.gcp.endings import MEMORY_SECONDS
from hostler.providers.gcp.errors import translate
from hostler.providers.gcp.labels import to_labels, to_tags
from hostler.providers.gcp.launch import MAX_USER_DATA_BYTES, WAIT_SECONDS
from hostler.providers.gcp.names import Ref, instance_names
from hostler.providers.gcp.prices import AGE_SECONDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

GARBAGE = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DOCUMENTS = Path(__file__).parents[2] / "docs" / "providers"
N1_WITH_T4 = "n1-standard-8+nvidia-tesla-t4:2"


def body(gcp: GcpHarness) -> dict[str, Any]:
    """What the last instances.insert carried."""
    return gcp.cloud.sent("instances.insert").body


def plain(gcp: GcpHarness, instance_type: str = "e2-standard-4", market: Market = Market.ON_DEMAND) -> Offer:
    return replace(gcp.offer(market), instance_type=instance_type, gpu=None)


# -- the call ----------------------------------------------------------------------------------------------


def test_a_spot_launch_is_deleted_when_it_is_preempted_and_never_restarted(gcp: GcpHarness) -> None:
    request = gcp.request()
    gcp.provider().launch(request)
    asked = body(gcp)
    assert asked["name"] == request.token
    assert asked["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
    }
    assert asked["labels"] == {
        "hostler-server": gcp.server_id,
        "hostler-pool": "pool",
        "hostler-intent": request.token,
    }
    assert asked["metadata"]["items"] == [{"key": "startup-script", "value": request.user_data}]
    assert "serviceAccounts" not in asked
    (disk,) = asked["disks"]
    assert (disk["boot"], disk["autoDelete"]) == (True, True)
    assert disk["initializeParams"] == {
        "sourceImage": "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64",
        "diskSizeGb": "60",
        "diskType": f"zones/{ZONE}/diskTypes/pd-balanced",
        "labels": asked["labels"],
    }
    assert asked["shieldedInstanceConfig"] == {
        "enableVtpm": True,
        "enableIntegrityMonitoring": True,
        "enableSecureBoot": False,
    }


def test_an_on_demand_machine_without_gpus_moves_at_maintenance(gcp: GcpHarness) -> None:
    (made,) = gcp.provider().launch(replace(gcp.request(), offer=plain(gcp))).instances
    assert made.market == "on_demand"
    assert body(gcp)["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": False,
        "onHostMaintenance": "MIGRATE",
    }


def test_gpus_are_attached_to_an_n1_machine_and_told_again_by_the_list(gcp: GcpHarness) -> None:
    offer = replace(gcp.offer(), instance_type=N1_WITH_T4, gpu=Gpu("T4", 2))
    gcp.provider().launch(replace(gcp.request(), offer=offer))
    asked = body(gcp)
    assert asked["machineType"].endswith("/machineTypes/n1-standard-8")
    kind = f"zones/{ZONE}/acceleratorTypes/nvidia-tesla-t4"
    assert asked["guestAccelerators"] == [{"acceleratorType": kind, "acceleratorCount": 2}]
    (listed,) = gcp.provider().instances()
    assert listed.instance_type == N1_WITH_T4
    assert listed.identity.isdigit()


def test_what_the_section_names_goes_into_the_call(gcp: GcpHarness) -> None:
    provider = gcp.provider(
        subnetwork="training",
        external_ip=False,
        network_tags=["agents"],
        service_account="tasks@acme-ml.iam.gserviceaccount.com",
        disk_type="pd-ssd",
        secure_boot=True,
    )
    (made,) = provider.launch(gcp.request()).instances
    asked = body(gcp)
    assert asked["networkInterfaces"] == [{"subnetwork": "regions/us-central1/subnetworks/training"}]
    assert asked["tags"] == {"items": ["agents"]}
    assert asked["serviceAccounts"][0]["email"] == "tasks@acme-ml.iam.gserviceaccount.com"
    assert asked["disks"][0]["initializeParams"]["diskType"].endswith("/pd-ssd")
    assert asked["shieldedInstanceConfig"]["enableSecureBoot"]
    assert made.address.startswith("10.")


def test_a_larger_image_makes_the_disk_larger_and_an_old_one_has_no_shield(gcp: GcpHarness) -> None:
    gcp.provider(image={"name": "legacy-image"}).launch(gcp.request())
    assert body(gcp)["disks"][0]["initializeParams"]["diskSizeGb"] == "80"
    assert "shieldedInstanceConfig" not in body(gcp)


def test_a_series_that_takes_only_hyperdisk_gets_it(gcp: GcpHarness) -> None:
    gcp.provider().launch(replace(gcp.request(), offer=plain(gcp, "c4-standard-8")))
    assert body(gcp)["disks"][0]["initializeParams"]["diskType"].endswith("/hyperdisk-balanced")


def test_cloud_config_is_for_cloud_init_and_a_script_for_googles_agent(gcp: GcpHarness) -> None:
    gcp.provider().launch(replace(gcp.request(), user_data="#cloud-config\nruncmd: [ls]\n"))
    assert body(gcp)["metadata"]["items"][0]["key"] == "user-data"


def test_a_retry_sends_byte_identical_parameters(gcp: GcpHarness) -> None:
    request = gcp.request()
    gcp.provider().launch(request)
    first = gcp.cloud.sent("instances.insert")
    gcp.provider().launch(request)
    assert gcp.cloud.sent("instances.insert") == first
    assert gcp.cloud.count("instances.insert") == 2


def test_user_data_beyond_the_limit_is_refused_before_the_call(gcp: GcpHarness) -> None:
    with pytest.raises(InvalidConfig, match=str(MAX_USER_DATA_BYTES)):
        gcp.provider().launch(replace(gcp.request(), user_data="x" * (MAX_USER_DATA_BYTES + 1)))
    assert gcp.cloud.count("instances.insert") == 0


@pytest.mark.parametrize(
    ("changes", "scope", "hint"),
    [
        ({"image": {"name": "no-such-image"}}, Scope.PROVIDER, "image"),
        ({"image": {"family": "no-such-family", "project": "ubuntu-os-cloud"}}, Scope.PROVIDER, "image"),
        ({"subnetwork": "gone"}, Scope.REGION, "subnetwork"),
        ({"network": "gone"}, Scope.PROVIDER, "network"),
        ({"service_account": "gone@acme-ml.iam.gserviceaccount.com"}, Scope.PROVIDER, "service_account"),
        ({"disk_type": "pd-gone"}, Scope.OFFER, "disk_type"),
    ],
)
def test_what_is_not_there_is_a_config_error_that_names_the_key(
    gcp: GcpHarness, changes: dict[str, Any], scope: Scope, hint: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        gcp.provider(**changes).launch(gcp.request())
    assert (caught.value.scope, caught.value.maybe_created) == (scope, False)
    assert hint in caught.value.hint


def test_a_type_that_is_not_sold_in_the_zone_holds_back_that_offer_alone(gcp: GcpHarness) -> None:
    with pytest.raises(InvalidConfig) as caught:
        gcp.provider().launch(replace(gcp.request(), offer=plain(gcp, "z9-huge")))
    assert caught.value.scope is Scope.OFFER


# -- operations --------------------------------------------------------------------------------------------


def test_a_stock_out_inside_an_operation_is_said_so_that_the_next_offer_can_be_asked(gcp: GcpHarness) -> None:
    gcp.cloud.exhaust("g2-standard-4", ZONE, "spot", details=True)
    provider = gcp.provider()
    with pytest.raises(InsufficientCapacity) as caught:
        provider.launch(gcp.request())
    assert (caught.value.scope, caught.value.maybe_created) == (Scope.OFFER, False)
    assert gcp.cloud.count("instances.insert") == 1
    assert running(provider) == []
    elsewhere = replace(gcp.request(), offer=replace(gcp.offer(), zone="us-central1-b"))
    assert provider.launch(elsewhere).instances[0].zone == "us-central1-b"
    assert provider.launch(replace(gcp.request(), offer=gcp.offer(Market.ON_DEMAND))).instances


def test_a_quota_is_told_with_its_name_and_limit(gcp: GcpHarness) -> None:
    gcp.cloud.quota = 0
    with pytest.raises(QuotaExceeded, match="PREEMPTIBLE-NVIDIA-L4-GPUS-per-project-region"):
        gcp.provider().launch(gcp.request())


def test_part_of_a_count_comes_with_an_error_for_the_rest(gcp: GcpHarness) -> None:
    gcp.cloud.quota = 2
    result = gcp.provider().launch(gcp.request(count=3))
    assert len(result.instances) == 2
    assert [type(error) for error in result.errors] == [QuotaExceeded]
    assert len(running(gcp.provider())) == 2


def test_a_slow_creation_is_waited_for_with_growing_pauses(gcp: GcpHarness) -> None:
    gcp.cloud.steps = 6
    (made,) = gcp.provider().launch(gcp.request()).instances
    assert made.state is CloudState.RUNNING
    assert gcp.waits == sorted(gcp.waits)
    assert sum(gcp.waits) < WAIT_SECONDS


def test_a_creation_that_takes_too_long_goes_on_without_us_as_a_pending_instance(gcp: GcpHarness) -> None:
    gcp.cloud.steps = 10_000
    (made,) = gcp.provider().launch(gcp.request()).instances
    assert made.state is CloudState.PENDING
    assert WAIT_SECONDS <= sum(gcp.waits) < WAIT_SECONDS + 5
    gcp.cloud.steps = 1
    gcp.provider().terminate(made.ref)


def test_an_operation_that_can_not_be_read_leaves_the_intent_open_and_a_replay_finds_it(
    gcp: GcpHarness,
) -> None:
    request = gcp.request()
    gcp.cloud.fail("zoneOperations.get", 503, "backendError", times=100)
    with pytest.raises(Unavailable) as caught:
        gcp.provider().launch(request)
    assert caught.value.maybe_created
    gcp.cloud.heal()
    (made,) = gcp.provider().launch(request).instances
    assert [one.ref for one in running(gcp.provider())] == [made.ref]


def test_one_lost_reply_is_mended_within_the_call(gcp: GcpHarness) -> None:
    gcp.cloud.lose_reply("instances.insert")
    provider = gcp.provider()
    (made,) = provider.launch(gcp.request()).instances
    assert [one.ref for one in running(provider)] == [made.ref]


def test_a_no_after_a_lost_reply_leaves_the_intent_open(gcp: GcpHarness) -> None:
    request = gcp.request()
    gcp.cloud.lose_reply("instances.insert")
    gcp.cloud.fail("instances.insert", 403, "forbidden")
    with pytest.raises(AuthFailed) as caught:
        gcp.provider().launch(request)
    assert caught.value.maybe_created
    (lost,) = running(gcp.provider())
    assert lost.intent == request.token


def test_a_throttled_launch_is_tried_once_more_and_makes_one(gcp: GcpHarness) -> None:
    gcp.cloud.fail("instances.insert", 429, "rateLimitExceeded")
    provider = gcp.provider()
    provider.launch(gcp.request())
    assert len(running(provider)) == 1


def test_a_forgotten_request_id_is_caught_by_the_name_and_the_instance_adopted(gcp: GcpHarness) -> None:
    request = gcp.request()
    (made,) = gcp.provider().launch(request).instances
    gcp.cloud.machines.by_request.clear()
    (adopted,) = gcp.provider().launch(request).instances
    assert adopted == made
    assert len(running(gcp.provider())) == 1


def test_a_name_that_another_server_took_is_not_adopted(gcp: GcpHarness) -> None:
    request = gcp.request()
    theirs = gcp.provider("another-server")
    (their,) = theirs.launch(replace(request, tags={**request.tags, TAG_SERVER: "another-server"})).instances
    with pytest.raises(InvalidConfig) as caught:
        gcp.provider().launch(request)
    assert (caught.value.scope, caught.value.maybe_created) == (Scope.OFFER, False)
    assert "not this server's" in caught.value.hint
    theirs.terminate(their.ref)


# -- listing and endings -----------------------------------------------------------------------------------


def test_three_hundred_and_ten_instances_are_listed_through_small_pages(gcp: GcpHarness) -> None:
    provider = gcp.provider()
    provider.launch(gcp.request())
    gcp.cloud.machines.multiply(310)
    gcp.cloud.page_size = 40
    before = gcp.cloud.count("instances.aggregatedList")
    listed = provider.instances()
    assert len({one.ref for one in listed}) == len(listed) == 310
    assert gcp.cloud.count("instances.aggregatedList") - before == 8
    gcp.cloud.machines.clear()


def test_a_page_that_fails_fails_the_list(gcp: GcpHarness) -> None:
    provider = gcp.provider()
    provider.launch(gcp.request(count=4))
    gcp.cloud.page_size = 2
    before = gcp.cloud.count("instances.aggregatedList")
    gcp.cloud.fail("instances.aggregatedList", 500, "backendError", times=100, after=1)
    with pytest.raises(Unavailable):
        gcp.provider().instances()
    assert gcp.cloud.count("instances.aggregatedList") - before > 1


def test_a_zone_of_ours_that_does_not_answer_fails_the_list_and_another_does_not(gcp: GcpHarness) -> None:
    gcp.provider().launch(gcp.request())
    gcp.cloud.unreachable.add("us-central1-b")
    with pytest.raises(Unavailable, match="us-central1-b is unreachable"):
        gcp.provider().instances()
    gcp.cloud.unreachable = {"europe-west4-a"}
    assert len(gcp.provider().instances()) == 1


def test_a_warning_for_a_zone_of_ours_fails_the_list(gcp: GcpHarness) -> None:
    gcp.cloud.warned["us-central1-c"] = "UNREACHABLE"
    with pytest.raises(Unavailable, match="UNREACHABLE"):
        gcp.provider().instances()


def test_an_instance_that_lists_do_not_show_yet_is_there_all_the_same(gcp: GcpHarness) -> None:
    gcp.cloud.hidden_lists = 2
    provider, request = gcp.provider(), gcp.request()
    (made,) = provider.launch(request).instances
    assert provider.instances() == ()
    assert provider.launch(request).instances[0].ref == made.ref
    assert provider.instances() == ()
    assert [one.ref for one in provider.instances()] == [made.ref]


def test_instances_in_a_region_taken_out_of_the_section_are_still_listed_and_ended(gcp: GcpHarness) -> None:
    both = gcp.provider(regions=["us-central1", "europe-west4"])
    offer = replace(gcp.offer(), region="europe-west4", zone="europe-west4-a")
    (made,) = both.launch(replace(gcp.request(), offer=offer)).instances
    one = gcp.provider()
    assert [found.ref for found in running(one)] == [made.ref]
    one.terminate(made.ref)
    assert running(one) == []


def test_a_preempted_instance_is_told_as_ended_with_its_own_tags(gcp: GcpHarness) -> None:
    provider, request = gcp.provider(), gcp.request()
    (made,) = provider.launch(request).instances
    gcp.cloud.preempt(ZONE, request.token)
    (gone,) = provider.instances()
    assert (gone.ref, gone.state, gone.detail) == (
        made.ref,
        CloudState.TERMINATED,
        "preempted by Compute Engine",
    )
    assert dict(gone.tags) == dict(request.tags)
    assert [str(one.ref) for one in provider.preemptions()] == [made.ref]
    assert gcp.provider("another-server").preemptions() == ()
    assert gcp.left() == []


def test_a_launch_replayed_after_its_preemption_starts_no_second_one(gcp: GcpHarness) -> None:
    request = gcp.request()
    gcp.provider().launch(request)
    gcp.cloud.preempt(ZONE, request.token)
    (ended,) = gcp.provider().launch(request).instances
    assert ended.state is CloudState.TERMINATED
    assert running(gcp.provider()) == []


def test_a_machine_that_shut_itself_down_still_costs_and_can_be_ended(gcp: GcpHarness) -> None:
    provider, request = gcp.provider(), gcp.request()
    (made,) = provider.launch(request).instances
    gcp.cloud.halt(ZONE, request.token)
    (found,) = provider.instances()
    assert found.state is CloudState.STOPPING
    assert "still costs its disk" in found.detail
    provider.terminate(made.ref)
    assert state_of(provider, made.ref) is CloudState.TERMINATED


def test_a_restarted_daemon_knows_its_own_deletions_and_no_one_elses(gcp: GcpHarness) -> None:
    theirs, ours = gcp.provider("another-server"), gcp.provider()
    (their,) = theirs.launch(gcp.request(server_id="another-server")).instances
    (our,) = ours.launch(gcp.request()).instances
    theirs.terminate(their.ref)
    ours.terminate(our.ref)
    restarted = gcp.provider()
    assert [(one.ref, one.state) for one in restarted.instances()] == [(our.ref, CloudState.TERMINATED)]
    restarted.terminate(our.ref)


def test_an_ended_instance_is_forgotten_after_an_hour(gcp: GcpHarness) -> None:
    (made,) = gcp.provider().launch(gcp.request()).instances
    gcp.provider().terminate(made.ref)
    assert state_of(gcp.provider(), made.ref) is CloudState.TERMINATED
    context = ProviderContext(gcp.server_id, "/nonexistent")
    now = gcp.cloud.clock()
    later = GcpProvider("gcp", gcp.section(), context, clock=lambda: now + MEMORY_SECONDS + 60)
    assert later.instances() == ()


def test_a_deletion_that_failed_is_asked_for_again_and_not_answered_with_the_old_failure(
    gcp: GcpHarness,
) -> None:
    (made,) = gcp.provider().launch(gcp.request()).instances
    ids = set()
    for _ in range(2):
        gcp.provider().terminate(made.ref)
        ids.add(gcp.cloud.sent("instances.delete").parameters["requestId"])
        if len(ids) == 1:
            # The deletion goes wrong at Google's: the machine stays.
            operation = next(reversed(gcp.cloud.machines.operations.values()))
            operation.kind = "nothing"
    assert len(ids) == 2
    assert running(gcp.provider()) == []


def test_a_ref_in_a_zone_that_is_not_there_is_not_found(gcp: GcpHarness) -> None:
    with pytest.raises(InstanceNotFound):
        gcp.provider().terminate("mars-north1-a/h-nothing")


# -- names and labels --------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.sampled_from([TAG_SERVER, TAG_POOL, TAG_INTENT, "hostler-pool", "team", "a_b"]),
        st.text(max_size=80),
    )
)
def test_labels_hold_any_tags_and_give_them_back(tags: dict[str, str]) -> None:
    labels = to_labels(tags) if sum(len(value.encode()) * 3 for value in tags.values()) < 63 * 50 else {}
    assert all(len(key) <= 63 and len(value) <= 63 for key, value in labels.items())
    assert all(
        set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for pair in labels.items() for text in pair
    )
    assert not labels or to_tags(labels) == tags


def test_a_tag_that_no_label_can_hold_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="does not begin with a lower-case letter"):
        to_labels({"9lives": "x"})
    with pytest.raises(InvalidConfig, match="longer than the 63"):
        to_labels({"k" * 70: "x"})


def test_a_pool_with_capitals_survives_the_cloud(gcp: GcpHarness) -> None:
    request = gcp.request()
    named = replace(request, tags={**request.tags, TAG_POOL: "GPU.Spot_" + "X" * 50})
    gcp.provider().launch(named)
    (listed,) = gcp.provider().instances()
    assert dict(listed.tags) == dict(named.tags)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,63}", fullmatch=True), st.integers(1, 3))
def test_every_token_makes_names_that_compute_engine_takes(token: str, count: int) -> None:
    offer = Offer("gcp", "us-central1", ZONE, "e2-standard-4", Market.SPOT, 4, 2**30)
    from hostler.providers.base import LaunchRequest

    names = instance_names(LaunchRequest(token, offer, "", {}, count=count))
    assert len(set(names)) == count
    for name in names:
        assert Ref(ZONE, name).name[0].isalpha()
        assert len(name) <= 63
        assert not name.endswith("-")


# -- offers and prices -------------------------------------------------------------------------------------


def offers_of(gcp: GcpHarness, **changes: Any) -> dict[tuple[str, str, str], Offer]:
    found = gcp.provider(**{"machine_types": [], **changes}).offers()
    return {(one.zone, one.instance_type, one.market.value): one for one in found}


def test_offers_are_types_times_zones_times_markets_with_the_sum_of_their_parts(gcp: GcpHarness) -> None:
    offers = offers_of(gcp)
    assert {zone for zone, _, _ in offers} == set(goods.ZONES["us-central1"])
    l4 = offers[ZONE, "g2-standard-4", "on_demand"]
    assert (l4.gpu, l4.cpus, l4.memory_bytes) == (Gpu("L4", 1, 24 * 2**30), 4, 16 * 2**30)
    assert l4.usd_per_hour == pytest.approx(4 * 0.024988 + 16 * 0.002927 + 0.560004)
    spot = offers[ZONE, "g2-standard-4", "spot"]
    assert spot.usd_per_hour == pytest.approx(4 * 0.024988 / 4 + 16 * 0.002927 / 4 + 0.560004 / 2)
    a100 = offers[ZONE, "a2-highgpu-1g", "on_demand"]
    assert a100.gpu == Gpu("A100-40GB", 1, 40 * 2**30)
    assert offers[ZONE, "e2-medium", "on_demand"].usd_per_hour == pytest.approx(0.021811 + 4 * 0.002923)


def test_what_the_image_can_not_boot_on_or_is_no_machine_for_us_is_no_offer(gcp: GcpHarness) -> None:
    kinds = {kind for _, kind, _ in offers_of(gcp)}
    assert kinds == {
        "e2-medium",
        "f1-micro",
        "e2-standard-4",
        "n1-standard-8",
        "n1-standard-96",
        "g2-standard-4",
        "a2-highgpu-1g",
        "c4-standard-8",
    }


def test_gpus_to_attach_make_offers_for_every_number_that_the_machine_takes(gcp: GcpHarness) -> None:
    offers = offers_of(gcp, accelerators=["nvidia-tesla-t4"])
    found = {kind for _, kind, _ in offers if "+" in kind}
    assert found == {
        "n1-standard-8+nvidia-tesla-t4:1",
        "n1-standard-8+nvidia-tesla-t4:2",
        "n1-standard-8+nvidia-tesla-t4:4",
        "n1-standard-96+nvidia-tesla-t4:4",
    }
    two = offers[ZONE, N1_WITH_T4, "on_demand"]
    assert two.gpu == Gpu("T4", 2, 16 * 2**30)
    assert two.usd_per_hour == pytest.approx(8 * 0.031611 + 30 * 0.004237 + 2 * 0.35)


def test_a_type_without_a_price_has_none(gcp: GcpHarness) -> None:
    assert offers_of(gcp)[ZONE, "f1-micro", "spot"].usd_per_hour is None
    gcp.cloud.skus = [one for one in goods.catalogue() if "G2 Instance Ram" not in one["description"]]
    assert offers_of(gcp)[ZONE, "g2-standard-4", "spot"].usd_per_hour is None
    assert offers_of(gcp)[ZONE, "e2-standard-4", "spot"].usd_per_hour is not None


def test_of_two_prices_for_one_thing_the_higher_counts(gcp: GcpHarness) -> None:
    gcp.cloud.skus = [*goods.catalogue(), goods.sku("E2 Instance Core running in Americas", 1.0)]
    usd = offers_of(gcp)[ZONE, "e2-standard-4", "on_demand"].usd_per_hour
    assert usd == pytest.approx(4 * 1.0 + 16 * 0.002923)


def test_without_the_catalogue_there_are_offers_without_prices_and_the_last_known_are_kept(
    gcp: GcpHarness,
) -> None:
    gcp.cloud.fail("services.skus.list", 403, "accessNotConfigured", times=1)
    now = [0.0]
    context = ProviderContext(gcp.server_id, "/nonexistent")
    provider = GcpProvider("gcp", gcp.section(), context, monotonic=lambda: now[0], sleep=gcp.waits.append)
    assert {offer.usd_per_hour for offer in provider.offers()} == {None}
    priced = provider.offers()
    assert None not in {offer.usd_per_hour for offer in priced}
    now[0] = AGE_SECONDS + 1
    gcp.cloud.fail("services.skus.list", 403, "accessNotConfigured", times=1)
    assert provider.offers() == priced


def test_catalogue_and_types_are_read_through_all_their_pages(gcp: GcpHarness) -> None:
    gcp.cloud.page_size = 3
    offers = offers_of(gcp, accelerators=["nvidia-tesla-t4"])
    assert offers[ZONE, N1_WITH_T4, "spot"].usd_per_hour is not None
    assert {zone for zone, _, _ in offers} == set(goods.ZONES["us-central1"])


def test_only_the_zones_of_the_section_are_offered(gcp: GcpHarness) -> None:
    assert {zone for zone, _, _ in offers_of(gcp, zones=["us-central1-b"])} == {"us-central1-b"}


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"regions": ["us-centrl1"]}, "did you mean us-central1"),
        ({"zones": ["us-central1-z"]}, "us-central1-a"),
    ],
)
def test_an_unknown_region_or_zone_is_told_with_what_there_is(
    gcp: GcpHarness, changes: dict[str, Any], hint: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        gcp.provider(**changes).offers()
    assert caught.value.scope is Scope.REGION
    assert hint in caught.value.hint


def test_one_broken_region_costs_only_itself(gcp: GcpHarness) -> None:
    offers = gcp.provider(regions=["us-central1", "us-centrl1"]).offers()
    assert {offer.region for offer in offers} == {"us-central1"}


# -- credentials and the doctor ----------------------------------------------------------------------------


def test_a_revoked_key_is_an_auth_failure_that_created_nothing(gcp: GcpHarness) -> None:
    gcp.server.revoked = True
    with pytest.raises(AuthFailed) as caught:
        gcp.provider().launch(gcp.request())
    assert (caught.value.scope, caught.value.maybe_created) == (Scope.PROVIDER, False)
    assert "gcloud auth" in caught.value.hint


def test_a_token_that_ran_out_is_renewed_within_the_call(gcp: GcpHarness) -> None:
    provider = gcp.provider()
    provider.instances()
    gcp.server.expire_tokens()
    assert provider.instances() == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"type": "service_account"}', '{"type": "nonsense"}'])
def test_a_key_file_that_is_none_is_told_at_once(gcp: GcpHarness, text: str) -> None:
    broken = gcp.key_file.with_name("broken.json")
    broken.write_text(text)
    with pytest.raises(AuthFailed, match=r"broken\.json"):
        gcp.provider(auth={"credentials_file": str(broken)})


def test_a_key_file_that_is_missing_is_told_at_once(gcp: GcpHarness) -> None:
    with pytest.raises(AuthFailed, match=r"gone\.json"):
        gcp.provider(auth={"credentials_file": str(gcp.key_file.with_name("gone.json"))})


def test_without_a_file_the_variable_of_the_cloud_is_used(
    gcp: GcpHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gcp.key_file))
    assert gcp.provider(auth={}).instances() == ()


def test_without_any_credentials_it_is_an_auth_failure(gcp: GcpHarness) -> None:
    with pytest.raises(AuthFailed) as caught:
        gcp.provider(auth={}).instances()
    assert caught.value.scope is Scope.PROVIDER


def test_nobody_there_is_unavailable_and_created_nothing(gcp: GcpHarness) -> None:
    import requests
    from google.auth.exceptions import TransportError

    library_error: Any = TransportError
    no_token = library_error("no token service")
    refused = requests.exceptions.ConnectionError("NewConnectionError: refused")
    lost = requests.exceptions.ReadTimeout("read timed out")
    for error, maybe in ((refused, False), (lost, True), (no_token, False)):
        told = translate(error, "instances.insert", ZONE, creates=True)
        assert (type(told), told.maybe_created) == (Unavailable, maybe)


def test_the_doctor_names_the_permissions_that_are_missing(gcp: GcpHarness) -> None:
    gcp.cloud.denied |= {"compute.instances.delete", "iam.serviceAccounts.actAs"}
    checks = {check.name: check for check in gcp.provider(service_account="default").check()}
    assert not checks["permissions"].ok
    assert checks["permissions"].detail == "missing: compute.instances.delete, iam.serviceAccounts.actAs"
    assert "gcp-role.yaml" in checks["permissions"].hint


def test_the_doctor_says_what_is_wrong_with_the_section(gcp: GcpHarness) -> None:
    provider = gcp.provider(regions=["us-central1"], subnetwork="gone", image={"name": "gone"})
    bad = {check.name: check.hint for check in provider.check() if not check.ok}
    assert set(bad) == {"image", "us-central1 network"}
    assert "image" in bad["image"]
    assert "subnetwork" in bad["us-central1 network"]


def test_the_doctor_stops_at_bad_credentials(gcp: GcpHarness) -> None:
    gcp.server.revoked = True
    (check,) = gcp.provider().check()
    assert (check.name, check.ok) == ("credentials", False)


def test_the_doctor_tells_a_project_that_is_not_there(gcp: GcpHarness) -> None:
    checks = gcp.provider(project="acme-nl").check()
    assert [check.ok for check in checks] == [False]
    assert "project" in checks[0].hint


def test_the_doctor_shows_quotas_and_does_not_mind_what_it_may_not_ask(gcp: GcpHarness) -> None:
    gcp.cloud.fail("projects.testIamPermissions", 403, "accessNotConfigured")
    checks = {check.name: check for check in gcp.provider().check()}
    assert "PREEMPTIBLE_NVIDIA_L4_GPUS: 1 of 8" in checks["us-central1 quota"].detail
    assert checks["permissions"].ok
    assert "not visible" in checks["permissions"].detail


def test_the_doctor_minds_a_catalogue_that_is_off(gcp: GcpHarness) -> None:
    gcp.cloud.fail("services.skus.list", 403, "accessNotConfigured")
    checks = {check.name: check for check in gcp.provider().check()}
    assert not checks["prices"].ok
    assert "gcloud services enable" in checks["prices"].hint


def test_the_role_holds_everything_that_the_daemon_does_and_the_doctor_asks_for(gcp: GcpHarness) -> None:
    role = YAML(typ="safe").load(DOCUMENTS / "gcp-role.yaml")
    gcp.provider(service_account="default", network_tags=["agents"]).check()
    asked = gcp.cloud.sent("projects.testIamPermissions").body["permissions"]
    # Whose identity the machines may take is given on that account, not on the project.
    assert set(asked) - {"iam.serviceAccounts.actAs"} - set(role["includedPermissions"]) == set()
    assert set(PERMISSIONS.values()) - set(role["includedPermissions"]) == set()


def test_the_fleet_yaml_of_the_document_is_valid_as_it_stands() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCUMENTS / "gcp.md").read_text(), re.DOTALL)
    assert isinstance(parse_fleet(text, "gcp.md", {}).providers["gcp"], Section)


# -- garbage and imports -----------------------------------------------------------------------------------


@GARBAGE
@given(
    method=st.sampled_from(
        [
            "instances.insert",
            "instances.get",
            "instances.aggregatedList",
            "zoneOperations.get",
            "zoneOperations.list",
        ]
    ),
    answer=st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"", b"null", b"[]", b"{}", b'{"items": 3}', b'{"status": 7}', b'{"name": {}}']),
        st.dictionaries(st.text(max_size=8), st.integers()).map(lambda one: json.dumps(one).encode()),
    ),
    status=st.sampled_from([200, 204, 302, 404, 500, 503]),
)
def test_garbage_from_the_cloud_comes_out_as_a_provider_error_or_nothing_at_all(
    gcp: GcpHarness, method: str, answer: bytes, status: int
) -> None:
    provider = gcp.provider()
    for act in (lambda: provider.launch(gcp.request()), provider.instances):
        gcp.cloud.answer(method, answer, status=status, times=1000)
        try:
            act()
        except ProviderError as error:
            assert error.detail
        gcp.cloud.heal()


def test_gcp_is_found_by_its_type_and_calls_nobody_when_it_is_made() -> None:
    section = Section.model_validate({"type": "gcp", "project": "acme-ml", "regions": ["us-central1"]})
    made = registry.create("cloud", section, ProviderContext("server", "/nonexistent"))
    assert isinstance(made, GcpProvider)


def test_a_missing_library_says_what_to_install() -> None:
    code = """if True:
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "google":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Absent())
        for name in [name for name in sys.modules if name.split(".")[0] == "google"]:
            del sys.modules[name]
        from hostler.providers import registry
        from hostler.providers.base import InvalidConfig
        try:
            registry.factory("gcp")
        except InvalidConfig as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "provider 'gcp' needs: pip install 'hostler[gcp]'", done.stderr
