"""The emulator refuses what Azure refuses, shows an adapter's mistakes, and is itself proved by seeded bad requests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ServiceRequestError
from azure.mgmt.compute import ComputeManagementClient
from contract.azure_harness import GROUP, SUBSCRIPTION, AzureHarness
from emulators.azure import schema
from emulators.azure.machines import refused
from hostler.config.azure import AzureProvider as Section
from hostler.providers.azure.images import Image
from hostler.providers.azure.machine import body_of

Change = Callable[[dict[str, Any]], object]


class Fixed:
    """A credential that always has the same token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, 2**33)


def client(azure: AzureHarness, *, token: str = "known", url: str = "") -> Any:
    azure.cloud.tokens.add("known")
    return ComputeManagementClient(
        Fixed(token),
        SUBSCRIPTION,
        base_url=url or azure.server.url,
        connection_verify=str(azure.server.ca_file),
        retry_total=0,
    )


def good(azure: AzureHarness) -> dict[str, Any]:
    section: Section = azure.section(public_ip=True)
    image = Image("x", {"publisher": "Canonical", "offer": "o", "sku": "s", "version": "latest"})
    return body_of(section, image, azure.request("h-plain"), "h-plain")


def put(azure: AzureHarness, body: dict[str, Any], **headers: str) -> None:
    compute = client(azure)
    compute.virtual_machines.begin_create_or_update(
        GROUP, "h-plain", body, polling=False, headers={"If-None-Match": "*"} | headers
    )


def refusal(azure: AzureHarness, body: dict[str, Any]) -> str:
    with pytest.raises(HttpResponseError) as caught:
        put(azure, body)
    assert azure.cloud.vms == {}
    return f"{caught.value.status_code} {caught.value.message}"


def test_a_good_body_is_taken(azure: AzureHarness) -> None:
    body = good(azure)
    assert schema.problems(body, schema.VIRTUAL_MACHINE) == []
    put(azure, body)
    assert set(azure.cloud.vms) == {"h-plain"}


def _network(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["properties"]["networkProfile"]
    return found


def _interface(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = _network(body)["networkInterfaceConfigurations"][0]
    return found


BAD: dict[str, tuple[Change, str]] = {
    "an unknown key": (lambda body: body.update(colour="red"), "no such key"),
    "an unknown key inside": (lambda body: body["properties"].update(spot=True), "properties.spot"),
    "a misspelt key deep inside": (
        lambda body: _interface(body)["properties"].update(deletOption="Delete"),
        "deletOption",
    ),
    "no location": (lambda body: body.pop("location"), "location: is missing"),
    "no name of an interface": (lambda body: _interface(body).pop("name"), "name: is missing"),
    "a number for a text": (lambda body: body.update(location=7), "7 is not str"),
    "a text for a number": (
        lambda body: body["properties"]["storageProfile"]["osDisk"].update(diskSizeGB="60"),
        "'60' is not int",
    ),
    "yes for a number": (
        lambda body: body["properties"]["storageProfile"]["osDisk"].update(diskSizeGB=True),
        "True is not int",
    ),
    "a text for yes": (lambda body: _interface(body)["properties"].update(primary="yes"), "is not bool"),
    "one for a list": (lambda body: body.update(zones="1"), "is not a list"),
    "a number in a list": (lambda body: body.update(zones=[1]), "zones[0]"),
    "an unknown word": (
        lambda body: body["properties"].update(evictionPolicy="Destroy"),
        "'Destroy' is not one of",
    ),
    "a word in another case": (
        lambda body: body["properties"].update(priority="spot"),
        "'spot' is not one of",
    ),
    "a list for an object": (lambda body: body.update(tags=[]), "is not an object"),
    "a number as a tag": (lambda body: body["tags"].update(count=3), "tags.count"),
    "a list for a mapping": (lambda body: body.update(properties=[]), "is not VirtualMachineProperties"),
    "no tags": (lambda body: body.pop("tags"), "no tags"),
    "a tag's name that Azure does not take": (lambda body: body["tags"].update({"a/b": ""}), "forbidden"),
    "an interface without tags": (lambda body: _interface(body).pop("tags"), "without tags"),
    "user-data that is not encoded": (
        lambda body: body["properties"]["osProfile"].update(customData="#!/bin/sh"),
        "not base64",
    ),
    "neither password nor key": (
        lambda body: body["properties"]["osProfile"]["linuxConfiguration"].pop("ssh"),
        "neither",
    ),
    "a key that is none": (
        lambda body: body["properties"]["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0].update(
            keyData="hello"
        ),
        "no public key",
    ),
    "no version of the network's API": (
        lambda body: _network(body).pop("networkApiVersion"),
        "networkApiVersion",
    ),
    "spot's terms on a regular machine": (
        lambda body: body["properties"].update(priority="Regular"),
        "are for Spot",
    ),
    "a size that is not sold": (
        lambda body: body["properties"]["hardwareProfile"].update(vmSize="Standard_None"),
        "VM size",
    ),
    "a zone that is not there": (lambda body: body.update(zones=["9"]), "zone 9"),
    "a subnet that is not there": (
        lambda body: _interface(body)["properties"]["ipConfigurations"][0]["properties"].update(
            subnet={"id": "/subscriptions/x"}
        ),
        "was not found",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_refused(azure: AzureHarness, name: str) -> None:
    change, said = BAD[name]
    body = copy.deepcopy(good(azure))
    change(body)
    assert said in refusal(azure, body)


def test_bad_answers_would_be_noticed_too() -> None:
    assert schema.problems({"location": "x", "properties": {"ipAddress": 3}}, schema.ADDRESS)
    assert schema.problems({"properties": {"ipConfigurations": {}}}, schema.INTERFACE)
    assert schema.problems({"location": "x", "diskSize": 3}, schema.DISK)
    assert schema.problems({"name": "x", "addressPrefix": 3}, schema.SUBNET)


def test_a_name_that_azure_does_not_take_is_refused(azure: AzureHarness) -> None:
    body = good(azure)
    assert refused(body, "h-plain") == ""
    for name in ("-x", "x-", "a_b", "x" * 65):
        assert refused(body, name) == "the VM's name"


def test_a_call_without_a_known_token_is_refused(azure: AzureHarness) -> None:
    with pytest.raises(HttpResponseError) as caught:
        list(client(azure, token="forged").virtual_machines.list(GROUP))
    assert caught.value.status_code == 401


def test_the_sdk_speaks_to_nobody_without_tls(azure: AzureHarness) -> None:
    plain = azure.server.url.replace("https:", "http:")
    with pytest.raises(ServiceRequestError, match="non-TLS"):
        list(client(azure, url=plain).virtual_machines.list(GROUP))


def test_an_adapter_that_puts_twice_without_its_condition_would_change_what_is_there(
    azure: AzureHarness,
) -> None:
    body = good(azure)
    put(azure, body)
    compute = client(azure)
    with pytest.raises(HttpResponseError) as taken:
        put(azure, body)
    assert taken.value.status_code == 412
    with pytest.raises(ResourceExistsError):
        compute.virtual_machines.begin_create_or_update(GROUP, "h-plain", body, polling=False)


def test_the_sdks_own_polling_resumes_from_its_token(azure: AzureHarness) -> None:
    azure.cloud.create_seconds = 5.0
    compute = client(azure)
    begun = compute.virtual_machines.begin_create_or_update(GROUP, "h-plain", good(azure), polling_interval=0)
    azure.time.sleep(6)
    resumed = compute.virtual_machines.begin_create_or_update(
        GROUP, "h-plain", good(azure), continuation_token=begun.continuation_token(), polling_interval=0
    )
    assert resumed.result().provisioning_state == "Succeeded"
    assert azure.cloud.count("vm.put") == 1


def test_a_failed_operation_leaves_a_failed_machine_an_interface_and_a_disk(azure: AzureHarness) -> None:
    azure.cloud.exhaust("OverconstrainedZonalAllocationRequest", later=True)
    put(azure, good(azure))
    assert azure.cloud.vms["h-plain"].body["properties"]["provisioningState"] == "Failed"
    assert len(azure.cloud.nics) == len(azure.cloud.disks) == len(azure.cloud.ips) == 1


def test_a_disk_and_an_interface_in_use_can_not_be_deleted(azure: AzureHarness) -> None:
    put(azure, good(azure))
    with pytest.raises(HttpResponseError):
        client(azure).disks.begin_delete(GROUP, "h-plain", polling=False)
    assert len(azure.cloud.disks) == 1


def test_pages_join_to_the_whole_list_without_repeats(azure: AzureHarness) -> None:
    provider = azure.provider()
    made = {one.ref for one in provider.launch(azure.request(count=5)).instances}
    azure.cloud.page_size = 2
    found = [vm.name for vm in client(azure).virtual_machines.list(GROUP)]
    assert sorted(found) == sorted(made)
    assert azure.cloud.count("vm.list") == 3


def test_what_a_test_did_not_foresee_is_remembered_as_a_violation(azure: AzureHarness) -> None:
    with pytest.raises(HttpResponseError):
        list(client(azure).virtual_machines.list_all())
    assert len(azure.cloud.violations) == 1
    azure.cloud.violations.clear()
