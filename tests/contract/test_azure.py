"""What is Azure's own: the body of the call, failures after a yes, leftovers, endings, offers, sign-in, garbage."""

from __future__ import annotations

import base64
import json
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ServiceRequestError
from contract.azure_harness import (
    GROUP,
    PLACE,
    SECRET_VARIABLE,
    SIZE,
    SUBNET,
    AzureHarness,
)
from contract.harness import running, terminate_all
from emulators.azure.catalogue import REGION, SIZES, Size, price_rows
from emulators.azure.cloud import Fault
from emulators.azure.request import answer
from hostler.config import parse_fleet
from hostler.providers.azure.adapter import AzureProvider
from hostler.providers.azure.checks import allows
from hostler.providers.azure.endings import KEPT_SECONDS
from hostler.providers.azure.errors import translate
from hostler.providers.azure.launch import EARLY_FAILURE_SECONDS
from hostler.providers.azure.leftovers import GRACE_SECONDS, SWEEP_EVERY_SECONDS
from hostler.providers.azure.listing import POWER_AGE_SECONDS
from hostler.providers.azure.machine import MAX_CUSTOM_DATA_BYTES, unmatched_key
from hostler.providers.azure.prices import AGE_SECONDS
from hostler.providers.azure.sizes import gpu_of
from hostler.providers.base import (
    TAG_INTENT,
    TAG_SERVER,
    AuthFailed,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Market,
    Offer,
    ProviderContext,
    ProviderError,
    QuotaExceeded,
    Scope,
    Throttled,
    Unavailable,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError

GARBAGE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IDENTITY = f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/trainer"
SECURITY_GROUP = f"{PLACE}/Microsoft.Network/networkSecurityGroups/closed"


def sent(azure: AzureHarness) -> dict[str, Any]:
    """The body of the last creation."""
    found: dict[str, Any] = azure.cloud.last("vm.put").json()
    return found


def interface(body: dict[str, Any]) -> dict[str, Any]:
    (found,) = body["properties"]["networkProfile"]["networkInterfaceConfigurations"]
    return dict(found)


def on_demand(azure: AzureHarness, *, count: int = 1) -> LaunchRequest:
    return replace(azure.request(count=count), offer=azure.offer(Market.ON_DEMAND))


# -- the call ------------------------------------------------------------------------------------------


def test_a_spot_launch_asks_for_a_machine_that_is_deleted_when_it_is_evicted(azure: AzureHarness) -> None:
    request = replace(azure.request(), max_usd_per_hour=0.5)
    azure.provider().launch(request)
    body = sent(azure)
    properties = body["properties"]
    assert azure.cloud.last("vm.put").names["name"] == request.token
    assert azure.cloud.last("vm.put").headers["if-none-match"] == "*"
    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": 0.5}
    assert base64.b64decode(properties["osProfile"]["customData"]).decode() == request.user_data
    assert properties["osProfile"]["linuxConfiguration"]["disablePasswordAuthentication"] is True
    disk = properties["storageProfile"]["osDisk"]
    assert (disk["name"], disk["deleteOption"], disk["diskSizeGB"]) == (request.token, "Delete", 60)
    assert interface(body)["properties"]["deleteOption"] == "Delete"
    assert body["zones"] == ["1"]
    assert body["location"] == REGION


def test_without_a_limit_spot_pays_up_to_the_regular_price(azure: AzureHarness) -> None:
    azure.provider().launch(azure.request())
    assert sent(azure)["properties"]["billingProfile"] == {"maxPrice": -1}


def test_everything_that_is_made_bears_our_tags(azure: AzureHarness) -> None:
    request = azure.request()
    azure.provider(public_ip=True).launch(request)
    cloud = azure.cloud
    made = [cloud.vms[request.token].body, *cloud.disks.values(), *cloud.nics.values(), *cloud.ips.values()]
    assert len(made) == 4
    for one in made:
        assert {key: one["tags"][key] for key in request.tags} == dict(request.tags)
        assert one["tags"]["Name"] == request.token


def test_an_on_demand_launch_asks_for_no_spot_market(azure: AzureHarness) -> None:
    (made,) = azure.provider().launch(on_demand(azure)).instances
    assert made.market == "on_demand"
    properties = sent(azure)["properties"]
    assert properties["priority"] == "Regular"
    assert not {"evictionPolicy", "billingProfile"} & set(properties)


def test_a_retry_sends_byte_identical_parameters(azure: AzureHarness) -> None:
    request = azure.request()
    azure.provider().launch(request)
    first = azure.cloud.last("vm.put").body
    azure.provider().launch(request)
    assert azure.cloud.last("vm.put").body == first
    assert azure.cloud.count("vm.put") == 2


def test_what_the_section_names_goes_into_the_call(azure: AzureHarness) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl laptop"
    azure.provider(
        security_group=SECURITY_GROUP,
        identities=[IDENTITY],
        ssh_public_key=key,
        admin_username="ops",
        public_ip=True,
        disk_type="Premium_LRS",
    ).launch(azure.request())
    body = sent(azure)
    inside = interface(body)["properties"]
    assert inside["networkSecurityGroup"] == {"id": SECURITY_GROUP}
    (address,) = inside["ipConfigurations"]
    assert address["properties"]["subnet"] == {"id": SUBNET}
    assert address["properties"]["publicIPAddressConfiguration"]["properties"]["deleteOption"] == "Delete"
    assert body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}
    system = body["properties"]["osProfile"]
    assert system["adminUsername"] == "ops"
    assert system["linuxConfiguration"]["ssh"]["publicKeys"] == [
        {"path": "/home/ops/.ssh/authorized_keys", "keyData": key}
    ]
    disk = body["properties"]["storageProfile"]["osDisk"]
    assert disk["managedDisk"] == {"storageAccountType": "Premium_LRS"}


def test_without_a_key_a_public_half_is_sent_that_has_no_other(azure: AzureHarness) -> None:
    first, second = unmatched_key("h-one"), unmatched_key("h-two")
    assert first == unmatched_key("h-one") != second
    kind, blob, _ = first.split()
    raw = base64.b64decode(blob)
    assert (kind, raw[4:15], len(raw)) == ("ssh-ed25519", b"ssh-ed25519", 4 + 11 + 4 + 32)
    request = azure.request()
    azure.provider().launch(request)
    (key,) = sent(azure)["properties"]["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key["keyData"] == unmatched_key(request.token)


def test_several_subnets_are_used_by_turns_and_the_same_for_the_same_token(azure: AzureHarness) -> None:
    other = SUBNET.replace("machines", "more")
    azure.cloud.subnets.add(other)
    used = []
    for number in range(8):
        token = f"h-spread-{number}"
        for _ in range(2):
            azure.provider(subnets=[SUBNET, other]).launch(azure.request(token))
        puts = [call for call in azure.cloud.calls if call.action == "vm.put"][-2:]
        ids = {
            interface(call.json())["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"]
            for call in puts
        }
        assert len(ids) == 1
        used.append(ids.pop())
    assert set(used) == {SUBNET, other}


def test_a_region_without_zones_is_launched_into_without_one(azure: AzureHarness) -> None:
    request = replace(azure.request(), offer=replace(azure.offer(), zone=""))
    (made,) = azure.provider().launch(request).instances
    assert "zones" not in sent(azure)
    assert made.zone == ""


@pytest.mark.parametrize("zone", ["eastus-9x", "westus-1", "x", "eastus-"])
def test_a_zone_of_elsewhere_is_a_config_error_of_that_zone(azure: AzureHarness, zone: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        azure.provider().launch(replace(azure.request(), offer=replace(azure.offer(), zone=zone)))
    assert caught.value.scope is Scope.ZONE


def test_without_a_disk_size_the_disk_still_holds_an_environment(azure: AzureHarness) -> None:
    azure.provider().launch(replace(azure.request(), disk_bytes=None))
    assert sent(azure)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 50


def test_a_disk_is_never_smaller_than_its_image(azure: AzureHarness) -> None:
    azure.provider().launch(replace(azure.request(), disk_bytes=2**30))
    assert sent(azure)["properties"]["storageProfile"]["osDisk"]["diskSizeGB"] == 30


@pytest.mark.parametrize(
    "change",
    [
        {"user_data": "x" * (MAX_CUSTOM_DATA_BYTES + 1)},
        {"token": "Has Blanks"},
        {"token": "h-" + "x" * 80},
        {"count": 0},
        {"count": 101},
        {"tags": {TAG_SERVER: "x", "a/b": "no slash"}},
        {"tags": {TAG_SERVER: "x" * 257}},
        {"tags": {f"tag{number}": "x" for number in range(60)}},
    ],
)
def test_what_azure_would_refuse_is_refused_before_the_call(
    azure: AzureHarness, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig):
        azure.provider().launch(replace(azure.request(), **change))
    assert azure.cloud.count("vm.put") == 0


def test_a_region_that_is_not_configured_is_refused_before_the_call(azure: AzureHarness) -> None:
    offer = replace(azure.offer(), region="westus", zone="westus-1")
    with pytest.raises(InvalidConfig) as caught:
        azure.provider().launch(replace(azure.request(), offer=offer))
    assert caught.value.scope is Scope.REGION


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        (
            "Canonical:ubuntu-24_04-lts:server:latest",
            {
                "publisher": "Canonical",
                "offer": "ubuntu-24_04-lts",
                "sku": "server",
                "version": "latest",
            },
        ),
        (f"{PLACE}/Microsoft.Compute/images/ours", {"id": f"{PLACE}/Microsoft.Compute/images/ours"}),
        (
            f"{PLACE}/Microsoft.Compute/galleries/shared/images/cuda/versions/1.2.3",
            {"id": f"{PLACE}/Microsoft.Compute/galleries/shared/images/cuda/versions/1.2.3"},
        ),
    ],
)
def test_an_image_is_named_by_urn_or_by_id(
    azure: AzureHarness, image: str, reference: dict[str, str]
) -> None:
    azure.provider(image=image).launch(azure.request())
    assert sent(azure)["properties"]["storageProfile"]["imageReference"] == reference


@pytest.mark.parametrize("image", ["Nobody:nothing:server:latest", "Canonical:ubuntu-24_04-lts:server:1.0.0"])
def test_an_image_that_is_not_there_is_a_config_error_of_the_region(azure: AzureHarness, image: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        azure.provider(image=image).launch(azure.request())
    assert caught.value.scope is Scope.REGION
    assert "image" in caught.value.hint
    assert azure.cloud.count("vm.put") == 0


def test_an_image_that_is_sold_is_bought_by_its_plan(azure: AzureHarness) -> None:
    azure.cloud.plan = {"name": "server", "publisher": "canonical", "product": "ubuntu"}
    azure.provider().launch(azure.request())
    assert sent(azure)["plan"] == azure.cloud.plan


# -- no capacity, and other answers --------------------------------------------------------------------


def test_no_capacity_is_said_at_once_so_that_the_next_offer_can_be_asked(azure: AzureHarness) -> None:
    azure.cloud.exhaust(size=SIZE, zone="1", priority="Spot")
    provider = azure.provider()
    with pytest.raises(InsufficientCapacity):
        provider.launch(azure.request())
    assert azure.cloud.count("vm.put") == 1
    assert azure.time.waits == []
    other_zone = replace(azure.request(), offer=replace(azure.offer(), zone="eastus-2"))
    assert provider.launch(other_zone).instances[0].zone == "eastus-2"
    assert provider.launch(on_demand(azure)).instances


@pytest.mark.parametrize("cascade", [True, False])
def test_a_failure_after_the_yes_is_told_by_the_launch_and_leaves_nothing(
    azure: AzureHarness, *, cascade: bool
) -> None:
    azure.cloud.cascade = cascade
    azure.cloud.create_seconds = 5.0
    azure.cloud.exhaust("OverconstrainedZonalAllocationRequest", later=True)
    provider = azure.provider()
    with pytest.raises(InsufficientCapacity) as caught:
        provider.launch(azure.request())
    assert not caught.value.maybe_created
    assert [one.state for one in provider.instances()] == [
        CloudState.TERMINATED if cascade else CloudState.STOPPING
    ]
    assert [one.state for one in provider.instances()] == [CloudState.TERMINATED]
    assert azure.left() == []


def test_a_failure_that_comes_too_late_for_the_launch_is_cleaned_up_by_the_list_of_the_next_daemon(
    azure: AzureHarness,
) -> None:
    azure.cloud.create_seconds = EARLY_FAILURE_SECONDS + 30
    azure.cloud.delete_seconds = 5.0
    azure.cloud.cascade = False
    azure.cloud.exhaust("ZonalAllocationFailed", later=True)
    (made,) = azure.provider().launch(azure.request()).instances
    assert made.state is CloudState.PENDING
    assert len(azure.left()) == 3
    azure.time.sleep(60)
    successor = azure.provider()
    (listed,) = successor.instances()
    assert (listed.ref, listed.state) == (made.ref, CloudState.STOPPING)
    assert "ZonalAllocationFailed" in listed.detail
    azure.time.sleep(6)
    successor.instances()
    (listed,) = successor.instances()
    assert (listed.ref, listed.state) == (made.ref, CloudState.TERMINATED)
    assert "ZonalAllocationFailed" in listed.detail
    assert azure.left() == []


def test_a_replay_of_a_launch_that_failed_unseen_says_what_happened(azure: AzureHarness) -> None:
    request = azure.request()
    azure.cloud.exhaust("AllocationFailed", later=True)
    azure.cloud.lose_reply("vm.put", times=1)
    with pytest.raises(InsufficientCapacity, match="AllocationFailed"):
        azure.provider().launch(request)
    assert running(azure.provider()) == []
    assert azure.left() == []


def test_a_launch_waits_for_an_early_failure_and_no_longer(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = 3600.0
    (made,) = azure.provider().launch(azure.request()).instances
    assert made.state is CloudState.PENDING
    assert sum(azure.time.waits) == pytest.approx(EARLY_FAILURE_SECONDS)
    assert [one.state for one in azure.provider().instances()] == [CloudState.PENDING]


def test_several_machines_are_waited_for_together(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = 3600.0
    assert len(azure.provider().launch(azure.request(count=5)).instances) == 5
    assert sum(azure.time.waits) == pytest.approx(EARLY_FAILURE_SECONDS)


def test_a_creation_that_can_not_be_watched_is_pending_all_the_same(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = 60.0
    azure.cloud.fail("operation.get", "InternalServerError", status=500)
    (made,) = azure.provider().launch(azure.request()).instances
    assert made.state is CloudState.PENDING
    assert azure.cloud.count("operation.get") == 1


def test_our_token_goes_nowhere_but_to_azure(azure: AzureHarness) -> None:
    request = azure.request()
    elsewhere = "https://127.0.0.2:1/subscriptions/operations/1"
    body = {"name": request.token, "location": REGION, "properties": {"provisioningState": "Creating"}}
    reply = answer(201, body, Azure_AsyncOperation=elsewhere)
    azure.cloud.arm(Fault("vm.put", reply, 1, forward=True))
    (made,) = azure.provider().launch(request).instances
    assert made.ref == request.token
    assert azure.cloud.count("operation.get") == 0


def test_part_of_a_count_comes_with_an_error_for_the_rest(azure: AzureHarness) -> None:
    azure.cloud.vcpus = 8
    result = azure.provider().launch(azure.request(count=5))
    assert len(result.instances) == 2
    assert [type(error) for error in result.errors] == [QuotaExceeded]
    assert azure.cloud.count("vm.put") == 3
    assert len(running(azure.provider())) == 2


def test_a_limit_below_the_spot_price_is_no_capacity_at_that_price(azure: AzureHarness) -> None:
    with pytest.raises(InsufficientCapacity) as caught:
        azure.provider().launch(replace(azure.request(), max_usd_per_hour=0.01))
    assert "price" in caught.value.hint


def test_a_throttled_call_says_how_long_azure_asks_to_wait(azure: AzureHarness) -> None:
    azure.cloud.fail("vm.put", "TooManyRequests", status=429, times=2, Retry_After="17")
    with pytest.raises(Throttled) as caught:
        azure.provider().launch(azure.request())
    assert caught.value.retry_after_seconds == 17
    assert azure.cloud.count("vm.put") == 2


@pytest.mark.parametrize("said", ["soon", "-3", "nan", ""])
def test_a_wait_that_makes_no_sense_is_none(azure: AzureHarness, said: str) -> None:
    azure.cloud.fail("vm.put", "TooManyRequests", status=429, times=2, Retry_After=said)
    with pytest.raises(Throttled) as caught:
        azure.provider().launch(azure.request())
    assert caught.value.retry_after_seconds is None


def test_one_lost_reply_is_mended_within_the_call(azure: AzureHarness) -> None:
    azure.cloud.lose_reply("vm.put")
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    assert [one.ref for one in running(provider)] == [made.ref]


def test_a_clear_no_after_a_lost_reply_leaves_the_intent_open(azure: AzureHarness) -> None:
    request = azure.request()
    azure.cloud.lose_reply("vm.put")
    azure.cloud.fail("vm.put", "TooManyRequests", status=429)
    provider = azure.provider()
    with pytest.raises(Throttled) as caught:
        provider.launch(request)
    assert caught.value.maybe_created
    (made,) = provider.launch(request).instances
    assert [one.ref for one in running(provider)] == [made.ref]


def test_a_machine_that_can_not_be_looked_at_leaves_the_intent_open(azure: AzureHarness) -> None:
    request = azure.request()
    provider = azure.provider()
    provider.launch(request)
    azure.cloud.fail("vm.get", "AuthorizationFailed", status=403)
    with pytest.raises(AuthFailed) as caught:
        provider.launch(request)
    assert caught.value.maybe_created


def test_a_provider_that_is_closed_waits_no_longer(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = 3600.0
    waits: list[float] = []

    def closed(seconds: float) -> bool:
        waits.append(seconds)
        return True

    context = ProviderContext(azure.server_id, str(azure.folder))
    provider = AzureProvider("azure", azure.section(), context, monotonic=azure.time, sleep=closed)
    (made,) = provider.launch(azure.request()).instances
    provider.close()
    assert made.state is CloudState.PENDING
    assert len(waits) == 1


def test_the_reason_is_found_inside_what_azure_wraps_it_in(azure: AzureHarness) -> None:
    inner = {"code": "QuotaExceeded", "message": "cores"}
    body = {"error": {"code": "DeploymentFailed", "message": "see details", "details": [inner]}}
    azure.cloud.answer("vm.put", json.dumps(body).encode(), status=409)
    with pytest.raises(QuotaExceeded, match="see details / cores"):
        azure.provider().launch(azure.request())


def test_a_strangers_machine_of_that_name_is_neither_adopted_nor_touched(azure: AzureHarness) -> None:
    theirs, token = azure.provider("another-server"), azure.token()
    theirs.launch(azure.request(token, server_id="another-server"))
    with pytest.raises(InvalidConfig, match="not of this launch"):
        azure.provider().launch(azure.request(token))
    assert azure.cloud.count("vm.delete") == 0
    terminate_all(theirs)


# -- the list ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_hundred_and_twenty_instances_are_listed_through_pages(azure: AzureHarness) -> None:
    azure.cloud.vcpus = 10_000
    provider = azure.provider()
    made = {
        one.ref
        for count in (100, 100, 100, 20)
        for one in provider.launch(on_demand(azure, count=count)).instances
    }
    before = azure.cloud.count("vm.list")
    listed = provider.instances()
    assert {one.ref for one in listed} == made
    assert len(listed) == 320
    assert azure.cloud.count("vm.list") - before == 4
    for ref in made:
        azure.cloud.begin_end(ref)


@pytest.mark.parametrize("page", [b"{}", b'{"value": null}', b'{"value": "none"}', b"[]"])
def test_a_page_without_items_is_an_error_and_never_an_empty_list(azure: AzureHarness, page: bytes) -> None:
    provider = azure.provider()
    provider.launch(azure.request())
    azure.cloud.answer("vm.list", page, times=10)
    with pytest.raises(Unavailable):
        provider.instances()


def test_an_error_on_a_later_page_is_an_error_and_never_a_shorter_list(azure: AzureHarness) -> None:
    provider = azure.provider()
    for _ in range(3):
        provider.launch(azure.request())
    azure.cloud.page_size = 1
    link = f"{azure.server.url}{PLACE}/Microsoft.Compute/virtualMachines?api-version=x&$skiptoken=1"
    azure.cloud.answer("vm.list", json.dumps({"value": [], "nextLink": link}).encode())
    azure.cloud.fail("vm.list", "AuthorizationFailed", status=403)
    with pytest.raises(AuthFailed):
        provider.instances()


def test_pages_that_never_end_are_an_error(azure: AzureHarness) -> None:
    link = f"{azure.server.url}{PLACE}/Microsoft.Compute/virtualMachines?api-version=x"
    azure.cloud.answer("vm.list", json.dumps({"value": [], "nextLink": link}).encode(), times=1000)
    with pytest.raises(Unavailable, match="pages don't end"):
        azure.provider().instances()


def test_an_instance_that_is_not_visible_yet_is_not_listed_and_loses_nothing(azure: AzureHarness) -> None:
    azure.cloud.visibility_lag_seconds = 200.0
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    for _ in range(4):
        assert provider.instances() == ()
        azure.time.sleep(49)
    azure.time.sleep(10)
    assert [one.ref for one in provider.instances()] == [made.ref]
    assert azure.cloud.count("disk.delete") == azure.cloud.count("nic.delete") == 0


def test_states_pass_through_creating_and_deleting(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = azure.cloud.delete_seconds = 100.0
    provider = azure.provider()
    seen = [provider.launch(azure.request()).instances[0]]
    for _ in range(2):
        seen.append(provider.instances()[0])
        azure.time.sleep(101)
    provider.terminate(seen[0].ref)
    for _ in range(2):
        seen.append(provider.instances()[0])
        azure.time.sleep(101)
    assert [one.state for one in seen] == [
        CloudState.PENDING,
        CloudState.PENDING,
        CloudState.RUNNING,
        CloudState.STOPPING,
        CloudState.TERMINATED,
    ]


@pytest.mark.parametrize("power", ["stopped", "deallocated", "deallocating"])
def test_a_machine_that_is_off_is_stopping_and_never_terminated(azure: AzureHarness, power: str) -> None:
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    assert [one.state for one in provider.instances()] == [CloudState.RUNNING]
    azure.cloud.vms[made.ref].power = power
    azure.time.sleep(POWER_AGE_SECONDS + 1)
    (listed,) = provider.instances()
    assert (listed.state, listed.detail) == (CloudState.STOPPING, f"it is {power}")


def test_without_permission_on_the_subscription_a_machine_counts_as_running(azure: AzureHarness) -> None:
    provider = azure.provider()
    provider.launch(azure.request())
    azure.cloud.fail("vm.list_all", "AuthorizationFailed", status=403)
    assert [one.state for one in provider.instances()] == [CloudState.RUNNING]


def test_a_machine_that_reported_too_late_but_runs_is_left_running(azure: AzureHarness) -> None:
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    machine = azure.cloud.vms[made.ref]
    machine.failure = ("OSProvisioningTimedOut", "did not finish in the allotted time")
    machine.body["properties"]["provisioningState"] = "Failed"
    azure.cloud.fail("vm.list_all", "AuthorizationFailed", status=403)
    assert [one.state for one in provider.instances()] == [CloudState.RUNNING]
    assert azure.cloud.count("vm.delete") == 0


def test_addresses_are_listed_the_public_one_before_the_private(azure: AzureHarness) -> None:
    provider = azure.provider(public_ip=True)
    (public,) = provider.launch(azure.request()).instances
    (private,) = azure.provider().launch(azure.request()).instances
    addresses = {one.ref: one.address for one in azure.provider().instances()}
    assert addresses[public.ref].startswith("203.0.113.")
    assert addresses[private.ref].startswith("10.0.")


def test_a_quiet_fleet_is_not_swept_at_every_look(azure: AzureHarness) -> None:
    provider = azure.provider()
    provider.launch(azure.request())
    for _ in range(6):
        provider.instances()
        azure.time.sleep(SWEEP_EVERY_SECONDS / 6 - 1)
    assert azure.cloud.count("disk.list") == azure.cloud.count("nic.list") == 1
    assert azure.cloud.count("vm.list_all") == 1
    assert azure.cloud.count("vm.list") == 6


# -- ends ----------------------------------------------------------------------------------------------


def test_an_evicted_machine_is_seen_to_end(azure: AzureHarness) -> None:
    azure.cloud.delete_seconds = 30.0
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    azure.cloud.evict(made.ref)
    (listed,) = provider.instances()
    assert (listed.state, listed.detail) == (CloudState.STOPPING, "it is being deleted")
    azure.time.sleep(31)
    assert [one.state for one in azure.provider().instances()] == [CloudState.TERMINATED]


def test_an_end_is_not_told_before_all_that_belongs_to_it_is_gone(azure: AzureHarness) -> None:
    azure.cloud.cascade = False
    provider = azure.provider(public_ip=True)
    (made,) = provider.launch(azure.request()).instances
    provider.terminate(made.ref)
    azure.cloud.fail("nic.delete", "NicReservedForAnotherVm", status=400, times=3)
    seen = [provider.instances()[0].state for _ in range(4)]
    assert seen[0] is seen[1] is CloudState.STOPPING
    assert seen[-1] is CloudState.TERMINATED
    assert azure.left() == []


def test_a_machine_that_was_made_by_a_daemon_without_memory_is_terminated_with_its_leftovers(
    azure: AzureHarness,
) -> None:
    azure.cloud.cascade = False
    (made,) = azure.provider().launch(azure.request()).instances
    azure.cloud.begin_end(made.ref)
    azure.cloud.settle()
    assert len(azure.left()) == 2
    provider = azure.provider()
    provider.terminate(made.ref)
    assert azure.left() == []
    assert [one.state for one in provider.instances()] == [CloudState.TERMINATED]


def test_what_lost_its_machine_unseen_goes_after_the_grace_and_what_is_anothers_stays(
    azure: AzureHarness,
) -> None:
    azure.cloud.cascade = False
    theirs = azure.provider("another-server")
    theirs.launch(azure.request("h-theirs", server_id="another-server"))
    azure.provider(public_ip=True).launch(azure.request("h-ours"))
    for name in ("h-theirs", "h-ours"):
        azure.cloud.begin_end(name)
    azure.cloud.settle()
    provider = azure.provider()
    assert provider.instances() == ()
    azure.time.sleep(GRACE_SECONDS - 1)
    provider.instances()
    assert len(azure.left()) == 3
    azure.time.sleep(SWEEP_EVERY_SECONDS + 1)
    provider.instances()
    assert azure.left() == []
    assert "h-theirs" in azure.cloud.disks
    azure.cloud.disks.clear()
    azure.cloud.nics.clear()


def test_endings_are_forgotten_in_the_end(azure: AzureHarness) -> None:
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    provider.terminate(made.ref)
    assert [one.state for one in provider.instances()] == [CloudState.TERMINATED]
    azure.time.sleep(KEPT_SECONDS + 1)
    assert provider.instances() == ()
    assert list((azure.folder / "azure" / "azure").iterdir()) == []


def test_memory_that_is_lost_or_broken_costs_nothing_but_itself(azure: AzureHarness) -> None:
    provider = azure.provider()
    (first,) = provider.launch(azure.request()).instances
    (second,) = provider.launch(azure.request()).instances
    provider.terminate(first.ref)
    folder = azure.folder / "azure" / "azure"
    (folder / f"{first.ref}.json").write_text('{"instance": 3')
    assert [one.ref for one in provider.instances()] == [second.ref]
    shutil.rmtree(folder)
    assert [one.ref for one in provider.instances()] == [second.ref]


def test_a_folder_that_can_not_be_written_keeps_no_machine_running(azure: AzureHarness) -> None:
    (azure.folder / "azure").write_text("a file is in the way")
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    provider.terminate(made.ref)
    assert azure.left() == []
    assert [one.state for one in provider.instances()] == [CloudState.TERMINATED]


def test_a_lock_on_the_resource_group_is_named(azure: AzureHarness) -> None:
    provider = azure.provider()
    (made,) = provider.launch(azure.request()).instances
    azure.cloud.fail("vm.delete", "ScopeLocked", status=409)
    with pytest.raises(InvalidConfig) as caught:
        provider.terminate(made.ref)
    assert "lock" in caught.value.hint


# -- sign-in -------------------------------------------------------------------------------------------


def test_a_missing_permission_is_named(azure: AzureHarness) -> None:
    azure.cloud.fail("vm.put", "AuthorizationFailed", status=403)
    with pytest.raises(AuthFailed) as caught:
        azure.provider().launch(azure.request())
    assert caught.value.hint == "allow Microsoft.Compute/virtualMachines/write to the daemon's identity"


def test_a_wrong_secret_says_what_to_renew(azure: AzureHarness) -> None:
    azure.cloud.secret = "another"
    with pytest.raises(AuthFailed, match="AADSTS7000215") as caught:
        azure.provider().instances()
    assert "renew" in caught.value.hint
    assert caught.value.scope is Scope.PROVIDER
    azure.cloud.secret = "secret"


def test_a_secret_that_is_not_set_is_named_at_once(
    azure: AzureHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SECRET_VARIABLE)
    with pytest.raises(AuthFailed, match=SECRET_VARIABLE):
        azure.provider()
    monkeypatch.setenv(SECRET_VARIABLE, azure.cloud.secret)


def test_a_certificate_that_is_not_there_is_told_at_once(azure: AzureHarness) -> None:
    auth = {**azure.section().to_dict()["auth"], "certificate_file": "/nonexistent/key.pem"}
    del auth["client_secret_env"]
    with pytest.raises(ProviderError):
        azure.provider(auth=auth)


def test_no_sign_in_at_all_is_an_auth_failure(azure: AzureHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    provider = azure.provider(auth={"authority": azure.server.url})
    monkeypatch.setattr("socket.socket.connect", refuse_to_connect)
    with pytest.raises(AuthFailed) as caught:
        provider.instances()
    assert caught.value.scope is Scope.PROVIDER
    monkeypatch.undo()
    monkeypatch.setenv(SECRET_VARIABLE, azure.cloud.secret)


def refuse_to_connect(*_args: object) -> None:
    raise ConnectionRefusedError("nobody is there")


def test_a_certificate_authority_that_is_not_there_is_a_config_error(azure: AzureHarness) -> None:
    with pytest.raises(InvalidConfig, match="ca_file"):
        azure.provider(ca_file="/nonexistent/ca.pem")


def test_a_server_that_is_not_the_one_it_should_be_is_not_spoken_to(azure: AzureHarness) -> None:
    with pytest.raises(ProviderError):
        azure.provider(ca_file=None).instances()
    assert azure.cloud.calls == []


def test_a_cloud_that_does_not_answer_is_unavailable_and_nothing_was_created(azure: AzureHarness) -> None:
    provider = azure.provider(endpoint_url="https://127.0.0.1:1")
    with pytest.raises(Unavailable) as caught:
        provider.launch(azure.request())
    assert not caught.value.maybe_created
    with pytest.raises(Unavailable):
        provider.instances()


@pytest.mark.parametrize("inner", [ssl.SSLEOFError("eof"), ConnectionResetError("reset"), OSError("broken")])
def test_a_connection_that_broke_while_it_was_used_may_have_created(inner: Exception) -> None:
    wrapped = requests.exceptions.SSLError(MaxRetryError(HTTPSConnectionPool("x"), "/", inner))
    told = translate(ServiceRequestError("broke", error=wrapped), "write", REGION, creates=True)
    assert isinstance(told, Unavailable)
    assert told.maybe_created


def test_a_connection_that_was_never_made_created_nothing() -> None:
    refused = NewConnectionError(HTTPSConnection("x"), "refused")
    for inner in (refused, ssl.SSLCertVerificationError("self-signed")):
        wrapped = requests.exceptions.ConnectionError(MaxRetryError(HTTPSConnectionPool("x"), "/", inner))
        told = translate(ServiceRequestError("no", error=wrapped), "write", REGION, creates=True)
        assert not told.maybe_created


# -- offers --------------------------------------------------------------------------------------------


def by_size(azure: AzureHarness, **changes: Any) -> dict[str, list[Offer]]:
    found: dict[str, list[Offer]] = {}
    for offer in azure.provider(**changes).offers():
        found.setdefault(offer.instance_type, []).append(offer)
    return found


def test_offers_span_zones_and_markets_with_prices_of_their_own(azure: AzureHarness) -> None:
    offers = by_size(azure)[SIZE]
    assert {(one.zone, one.market) for one in offers} == {
        (f"eastus-{zone}", market) for zone in "123" for market in Market
    }
    assert {one.usd_per_hour for one in offers if one.market is Market.SPOT} == {0.2104}
    assert {one.usd_per_hour for one in offers if one.market is Market.ON_DEMAND} == {0.526}
    (gpu,) = {one.gpu for one in offers}
    assert gpu is not None
    assert (gpu.name, gpu.count, gpu.memory_bytes) == ("T4", 1, 16 * 2**30)
    assert {(one.cpus, one.memory_bytes) for one in offers} == {(4.0, 28 * 2**30)}


def test_what_can_not_be_told_or_used_is_not_offered(azure: AzureHarness) -> None:
    offered = set(by_size(azure))
    assert "Standard_D2s_v5" in offered
    assert "Standard_NV12ads_A10_v5" not in offered  # a third of a card
    assert "Standard_D2ps_v5" not in offered  # another processor
    assert "Standard_NC8unheard_v9" not in offered  # a card we don't know
    assert {one.zone for one in by_size(azure)["Standard_NV36ads_A10_v5"]} == {""}
    assert {one.market for one in by_size(azure)["Standard_ND96isr_H100_v5"]} == {Market.ON_DEMAND}


def test_a_size_that_starts_another_generation_of_images_is_not_offered(azure: AzureHarness) -> None:
    own = f"{PLACE}/Microsoft.Compute/images/ours"
    assert "Standard_NC24ads_A100_v4" in by_size(azure)
    assert "Standard_NC24ads_A100_v4" not in by_size(azure, image=own)
    gallery = f"{PLACE}/Microsoft.Compute/galleries/shared/images/cuda"
    assert set(by_size(azure, image=gallery)) == {"Standard_D2ps_v5"}


def test_what_the_subscription_may_not_have_is_not_offered(azure: AzureHarness) -> None:
    azure.cloud.restrictions = {
        SIZE: [
            {
                "type": "Zone",
                "values": [REGION],
                "restrictionInfo": {"locations": [REGION], "zones": ["1", "3"]},
                "reasonCode": "NotAvailableForSubscription",
            }
        ],
        "Standard_D2s_v5": [
            {
                "type": "Location",
                "values": [REGION],
                "restrictionInfo": {"locations": [REGION]},
                "reasonCode": "NotAvailableForSubscription",
            }
        ],
    }
    offers = by_size(azure)
    assert {one.zone for one in offers[SIZE]} == {"eastus-2"}
    assert "Standard_D2s_v5" not in offers


def test_globs_and_zones_choose_what_is_offered(azure: AzureHarness) -> None:
    offers = by_size(azure, vm_sizes=["standard_nc*"], zones=["2"])
    assert set(offers) == {SIZE, "Standard_NC24ads_A100_v4"}
    assert {one.zone for found in offers.values() for one in found} == {"eastus-2"}


@pytest.mark.parametrize(
    "override",
    [
        {"retailPrice": 0.0},
        {"retailPrice": -1},
        {"retailPrice": "1.5"},
        {"retailPrice": None},
        {"retailPrice": True},
        {"currencyCode": "EUR"},
        {"unitOfMeasure": "1 Month"},
        {"type": "Reservation"},
        {"productName": "Virtual Machines Windows"},
        {"productName": "NCasT4 Series CloudServices"},
    ],
)
def test_a_price_that_is_none_is_no_price(azure: AzureHarness, override: dict[str, Any]) -> None:
    azure.cloud.price_overrides = override
    assert {offer.usd_per_hour for offer in azure.provider(vm_sizes=[SIZE]).offers()} == {None}


def test_of_several_prices_for_one_thing_the_highest_is_reckoned_with(azure: AzureHarness) -> None:
    twins = (Size(SIZE, 4, "28", 1, usd=0.7, spot_usd=0.1), Size(SIZE, 4, "28", 1, usd=0.6, spot_usd=0.3))
    rows = [row for twin in twins for row in price_rows(twin)]
    azure.cloud.answer("prices.get", json.dumps({"Items": rows, "NextPageLink": None}).encode())
    found = {offer.market: offer.usd_per_hour for offer in azure.provider(vm_sizes=[SIZE]).offers()}
    assert found == {Market.ON_DEMAND: 0.7, Market.SPOT: 0.3}


def test_without_the_price_list_offers_have_no_price_and_then_the_last_known_one(azure: AzureHarness) -> None:
    provider = azure.provider(vm_sizes=[SIZE])
    azure.cloud.answer("prices.get", b"<html>busy</html>", status=503, times=50)
    assert {offer.usd_per_hour for offer in provider.offers()} == {None}
    azure.cloud.heal()
    assert None not in {offer.usd_per_hour for offer in provider.offers()}
    azure.time.sleep(AGE_SECONDS + 1)
    azure.cloud.answer("prices.get", b"{}", times=50)
    assert None not in {offer.usd_per_hour for offer in provider.offers()}


def test_the_price_list_is_read_through_pages_and_kept(azure: AzureHarness) -> None:
    azure.cloud.sizes = (*SIZES, *(Size(f"Standard_E{number}_v5", 2, "16") for number in range(30)))
    azure.cloud.page_size = 25
    provider = azure.provider(vm_sizes=["Standard_E*", SIZE])
    offers = provider.offers()
    assert len(offers) == 31 * 3 * 2
    assert None not in {offer.usd_per_hour for offer in offers}
    asked = azure.cloud.count("prices.get")
    assert asked > 3
    provider.offers()
    assert azure.cloud.count("prices.get") == asked
    azure.time.sleep(AGE_SECONDS + 1)
    provider.offers()
    assert azure.cloud.count("prices.get") == 2 * asked
    assert not [
        call for call in azure.cloud.calls if call.action == "prices.get" and "authorization" in call.headers
    ]


def test_prices_that_never_end_are_no_prices(azure: AzureHarness) -> None:
    link = f"{azure.server.url}/api/retail/prices?$filter=x"
    azure.cloud.answer("prices.get", json.dumps({"Items": [], "NextPageLink": link}).encode(), times=10_000)
    assert {offer.usd_per_hour for offer in azure.provider(vm_sizes=[SIZE]).offers()} == {None}


def test_one_broken_region_costs_only_itself(azure: AzureHarness) -> None:
    subnets = {"westus": SUBNET, REGION: SUBNET}
    azure.cloud.fail("image.list", "AuthorizationFailed", status=403)
    provider = azure.provider(regions=["westus", REGION], subnets=subnets)
    assert {offer.region for offer in provider.offers()} == {REGION}


@pytest.mark.parametrize(
    ("size", "ours"),
    [
        ("Standard_NC4as_T4_v3", "T4"),
        ("Standard_NC64as_T4_v3", "T4"),
        ("Standard_NC24ads_A100_v4", "A100-80GB"),
        ("Standard_NC96ads_A100_v4", "A100-80GB"),
        ("Standard_NC40ads_H100_v5", "H100-NVL"),
        ("Standard_NC80adis_H100_v5", "H100-NVL"),
        ("Standard_NC6s_v3", "V100"),
        ("Standard_NC24rs_v3", "V100"),
        ("Standard_ND40rs_v2", "V100-32GB"),
        ("Standard_ND96asr_v4", "A100-40GB"),
        ("Standard_ND96amsr_A100_v4", "A100-80GB"),
        ("Standard_ND96isr_H100_v5", "H100"),
        ("Standard_ND96isr_H200_v5", "H200"),
        ("Standard_ND96isr_MI300X_v5", "MI300X"),
        ("Standard_NV36ads_A10_v5", "A10"),
        ("Standard_NV36adms_A10_v5", "A10"),
        ("Standard_NV72ads_A10_v5", "A10"),
        ("Standard_NV12s_v3", "M60"),
        ("Standard_NV6ads_A10_v5", None),
        ("Standard_NV18ads_A10_v5", None),
        ("Standard_NV4as_v4", None),
        ("Standard_NC99zz_v99", None),
        ("Standard_D2s_v5", None),
    ],
)
def test_gpus_are_known_by_the_names_of_their_sizes(size: str, ours: str | None) -> None:
    found = gpu_of(size, 2)
    assert (found.name if found else None) == ours
    assert found is None or (found.count == 2 and found.memory_bytes > 0)


# -- the doctor ----------------------------------------------------------------------------------------


def test_the_doctor_names_what_is_wrong(azure: AzureHarness) -> None:
    azure.cloud.permissions = [
        {"actions": ["Microsoft.Compute/*", "*/read"], "notActions": ["Microsoft.Compute/disks/delete"]}
    ]
    azure.cloud.subnets.clear()
    azure.cloud.fail("usage.list", "AuthorizationFailed", status=403)
    azure.cloud.fail("vm.list_all", "AuthorizationFailed", status=403)
    found = {check.name: check for check in azure.provider(image="Nobody:nothing:x:latest").check()}
    assert not found["permissions"].ok
    assert "Microsoft.Network/networkInterfaces/write" in found["permissions"].detail
    assert "Microsoft.Compute/disks/delete" in found["permissions"].detail
    assert "Microsoft.Compute/virtualMachines/write" not in found["permissions"].detail
    assert GROUP in found["permissions"].hint
    assert not found["eastus subnet fleet/machines"].ok
    assert not found["eastus image"].ok
    assert found["eastus quota"].ok
    assert "not visible" in found["eastus quota"].detail
    assert found["power states"].ok
    assert "subscription" in found["power states"].hint
    azure.cloud.subnets.add(SUBNET)


def test_the_doctor_tells_quota_and_prices_and_starts_nothing(azure: AzureHarness) -> None:
    found = {check.name: check for check in azure.provider().check()}
    assert found["eastus quota"].detail == "cores: 4 of 100 vCPUs used; lowPriorityCores: 4 of 100 vCPUs used"
    assert found["eastus prices"].ok
    assert azure.cloud.count("vm.put") == 0


def test_the_doctor_says_when_prices_can_not_be_reached_or_no_size_is_left(azure: AzureHarness) -> None:
    azure.cloud.answer("prices.get", b"", status=503, times=50)
    found = {check.name: check for check in azure.provider().check()}
    assert not found["eastus prices"].ok
    assert "prices.azure.com" in found["eastus prices"].hint
    found = {check.name: check for check in azure.provider(vm_sizes=["Standard_None*"]).check()}
    assert not found["eastus sizes"].ok
    assert "vm_sizes" in found["eastus sizes"].hint


def test_the_doctor_stops_at_a_sign_in_that_does_not_work(azure: AzureHarness) -> None:
    azure.cloud.fail("vm.list", "InvalidAuthenticationToken", status=401, times=10)
    (check,) = azure.provider().check()
    assert (check.name, check.ok) == ("sign-in", False)
    assert check.hint


@pytest.mark.parametrize(
    ("actions", "exceptions", "allowed"),
    [
        (["*"], [], True),
        (["*/read"], [], False),
        (["Microsoft.Compute/*"], [], True),
        (["microsoft.compute/virtualmachines/WRITE"], [], True),
        (["Microsoft.Compute/virtualMachines/*"], ["*/write"], False),
        (["Microsoft.Compute/disks/*"], [], False),
        ([], [], False),
    ],
)
def test_wildcards_of_permissions_are_read_as_azure_does(
    actions: list[str], exceptions: list[str], *, allowed: bool
) -> None:
    entry = {"actions": actions, "notActions": exceptions}
    assert allows([entry], "Microsoft.Compute/virtualMachines/write") is allowed
    assert allows([{}, entry], "Microsoft.Compute/virtualMachines/write") is allowed


# -- garbage -------------------------------------------------------------------------------------------


@pytest.fixture
def one_instance(azure: AzureHarness) -> Iterator[tuple[AzureProvider, str]]:
    provider = azure.provider()
    yield provider, provider.launch(azure.request()).instances[0].ref
    azure.heal()
    terminate_all(azure.provider())


def vm_described(**properties: Any) -> bytes:
    return json.dumps({"value": [{"name": "h-x", "location": REGION, "properties": properties}]}).encode()


BODIES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["value", "error", "code", "name", "tags", "properties", "details", "nextLink"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"",
            b"<html><body>502 Bad Gateway</body></html>",
            b'{"value": [{}]}',
            b'{"value": [null]}',
            b'{"value": [], "nextLink": "https://127.0.0.1:1/"}',
            vm_described(provisioningState="Exploded", timeCreated="yesterday"),
            vm_described(instanceView=[], hardwareProfile=3),
            b'{"status": "Failed", "error": "none"}',
            b'{"error": {"code": 7, "details": [[]]}}',
        ]
    ),
)


@GARBAGE
@given(body=BODIES, status=st.sampled_from([200, 201, 202, 204, 400, 403, 404, 409, 412, 429, 500, 502, 503]))
def test_whatever_the_cloud_answers_only_a_provider_error_comes_out(
    one_instance: tuple[AzureProvider, str], azure: AzureHarness, body: bytes, status: int
) -> None:
    provider, ref = one_instance
    for act in (
        provider.instances,
        lambda: provider.terminate(ref),
        lambda: provider.launch(azure.request()),
        provider.offers,
        provider.check,
    ):
        azure.cloud.answer("*", body, status=status, times=200)
        try:
            act()
        except ProviderError as error:
            assert error.detail
        finally:
            azure.cloud.heal()


def test_an_unreadable_answer_to_a_launch_leaves_the_intent_open(azure: AzureHarness) -> None:
    request = azure.request()
    azure.cloud.answer("vm.put", b'{"name": ', status=201, forward=True)
    azure.cloud.answer("vm.put", b"", status=500)
    provider = azure.provider()
    with pytest.raises(Unavailable) as caught:
        provider.launch(request)
    assert caught.value.maybe_created
    (made,) = provider.launch(request).instances
    assert [one.ref for one in running(provider)] == [made.ref]
    assert made.intent == request.tags[TAG_INTENT]


def test_a_name_that_is_taken_and_not_visible_leaves_the_intent_open(azure: AzureHarness) -> None:
    azure.cloud.fail("vm.put", "PreconditionFailed", status=412, times=5)
    with pytest.raises(Unavailable) as caught:
        azure.provider().launch(azure.request())
    assert caught.value.maybe_created


def test_a_ref_of_another_servers_machine_is_not_found(azure: AzureHarness) -> None:
    theirs = azure.provider("another-server")
    (their,) = theirs.launch(azure.request(server_id="another-server")).instances
    with pytest.raises(InstanceNotFound):
        azure.provider().terminate(their.ref)
    assert azure.cloud.count("vm.delete") == 0
    terminate_all(theirs)


def test_a_provider_object_asks_nothing_when_it_is_made(azure: AzureHarness) -> None:
    AzureProvider("azure", azure.section(), ProviderContext(azure.server_id, str(azure.folder)))
    assert azure.cloud.calls == []


# -- the documentation ---------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "providers"


def test_the_role_in_the_documentation_allows_all_that_the_doctor_asks_for(azure: AzureHarness) -> None:
    role = json.loads((DOCS / "azure-role.json").read_text())
    azure.cloud.permissions = [{"actions": role["Actions"], "notActions": role["NotActions"]}]
    found = {check.name: check for check in azure.provider(public_ip=True).check()}
    assert found["permissions"].ok, found["permissions"].detail


def test_the_fleet_in_the_documentation_is_one() -> None:
    page = (DOCS / "azure.md").read_text()
    text = page.split("```yaml\n")[1].split("```")[0]
    assert parse_fleet(text, variables={}).providers["azure"].type == "azure"
