"""`type: azure`: what may be written, what is refused, and what the sentence says."""

from __future__ import annotations

from typing import Any

import pytest
from hostler.config.azure import DEFAULT_IMAGE, AzureProvider
from hostler.config.schema import fleet_schema
from jsonschema import Draft202012Validator
from pydantic import ValidationError

UUID = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
PLACE = f"/subscriptions/{UUID}/resourceGroups/ml/providers"
SUBNET = f"{PLACE}/Microsoft.Network/virtualNetworks/fleet/subnets/machines"
LEAST: dict[str, Any] = {
    "type": "azure",
    "subscription": UUID,
    "resource_group": "ml",
    "regions": ["eastus"],
    "subnets": SUBNET,
}


def azure(**settings: Any) -> AzureProvider:
    return AzureProvider.model_validate({**LEAST, **settings})


def test_the_least_is_a_subscription_a_group_a_region_and_a_subnet() -> None:
    section = azure()
    assert section.image == DEFAULT_IMAGE
    assert section.subnets_in("eastus") == (SUBNET,)
    assert section.security_group_in("eastus") is None
    assert not section.public_ip
    assert AzureProvider.model_validate(section.to_dict()) == section


def test_what_belongs_to_a_region_is_given_per_region() -> None:
    other = SUBNET.replace("machines", "more")
    group = f"{PLACE}/Microsoft.Network/networkSecurityGroups/closed"
    section = azure(
        regions=["eastus", "westeurope"],
        subnets={"eastus": [SUBNET, other], "westeurope": other},
        security_group={"westeurope": group},
    )
    assert section.subnets_in("eastus") == (SUBNET, other)
    assert section.subnets_in("westeurope") == (other,)
    assert section.security_group_in("westeurope") == group
    assert section.security_group_in("eastus") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"subscription": "mine"}, "is not an id such as"),
        ({"resource_group": "a b"}, "match pattern"),
        ({"regions": ["eastus-1"]}, "is a zone; the region is 'eastus'"),
        ({"regions": ["East US"]}, "is not an Azure region"),
        ({"regions": ["eastus", "eastus"]}, "listed twice"),
        ({"regions": []}, "at least 1 item"),
        ({"subnets": None}, "valid dictionary"),
        ({"subnets": []}, "at least 1 item"),
        ({"subnets": {}}, "subnets has none for eastus; Azure has no default network"),
        ({"subnets": "machines"}, "is not a subnet's resource id; it must look like /subscriptions/"),
        ({"regions": ["eastus", "westus"]}, "subnets belongs to one region: write it as {eastus: ..., ...}"),
        ({"regions": ["eastus", "westus"], "subnets": {"eastus": SUBNET}}, "has none for westus"),
        ({"subnets": {"eastus": SUBNET, "westus": SUBNET}}, "names 'westus', which is not in regions"),
        ({"security_group": "closed"}, "is not a security group's resource id"),
        ({"identities": ["trainer"]}, "is not a managed identity's resource id"),
        ({"image": "ubuntu"}, "is not an image; write a URN such as Canonical:"),
        ({"image": f"{PLACE}/Microsoft.Compute/disks/x"}, "is not an image"),
        ({"ssh_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "must be a public key"),
        ({"admin_username": "Root User"}, "match pattern"),
        ({"disk_type": "Fast"}, "Input should be 'StandardSSD_LRS'"),
        ({"zones": ["eastus-1"]}, "match pattern"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "match pattern"),
        ({"auth": {"tenant": UUID}}, "tenant and client_id go together"),
        ({"auth": {"tenant": UUID, "client_id": UUID}}, "exactly one of client_secret_env, certificate_file"),
        (
            {
                "auth": {
                    "tenant": UUID,
                    "client_id": UUID,
                    "client_secret_env": "A",
                    "certificate_file": "/a",
                }
            },
            "exactly one of",
        ),
        ({"auth": {"client_secret_env": "A"}}, "go together"),
        ({"auth": {"managed_identity": "mine"}}, "managed_identity is 'system' or"),
        ({"auth": {"managed_identity": "system", "tenant": UUID}}, "not both"),
        ({"network": "fleet"}, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_section_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        azure(**settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"managed_identity": "system"},
        {"managed_identity": UUID},
        {"tenant": UUID, "client_id": UUID, "client_secret_env": "SECRET"},
        {"tenant": UUID, "client_id": UUID, "certificate_file": "/etc/hostler/azure.pem"},
    ],
)
def test_there_are_five_ways_to_sign_in(auth: dict[str, Any]) -> None:
    section = azure(auth=auth)
    assert section.auth.to_dict() == auth


@pytest.mark.parametrize("subnets", [SUBNET, [SUBNET], {"eastus": SUBNET}, {"eastus": [SUBNET]}])
def test_the_published_schema_knows_every_way_to_write_it(subnets: object) -> None:
    fleet = {
        "providers": {"azure": {**LEAST, "subnets": subnets}},
        "pools": {"gpu": {"providers": ["azure"], "offers": [{"gpu": "T4"}]}},
    }
    assert list(Draft202012Validator(fleet_schema()).iter_errors(fleet)) == []
