"""The section of a Google Cloud provider."""

from __future__ import annotations

from typing import Any

import pytest
from hostler.config import ConfigError, parse_fleet
from hostler.config.gcp import GcpProvider
from pydantic import ValidationError

GCP = {"type": "gcp", "project": "acme-ml", "regions": ["us-central1"]}


def gcp(**settings: Any) -> GcpProvider:
    return GcpProvider.model_validate({**GCP, **settings})


def test_the_least_is_a_project_and_a_region() -> None:
    found = gcp()
    assert (found.image.family, found.image_project) == ("ubuntu-2404-lts-amd64", "ubuntu-os-cloud")
    assert found.subnetwork_in("us-central1") is None
    assert found.external_ip


def test_a_subnetwork_belongs_to_a_region() -> None:
    assert gcp(subnetwork="training").subnetwork_in("us-central1") == "training"
    two = gcp(regions=["us-central1", "europe-west4"], subnetwork={"europe-west4": "training"})
    assert (two.subnetwork_in("us-central1"), two.subnetwork_in("europe-west4")) == (None, "training")


def test_an_image_without_a_project_is_the_providers_own() -> None:
    assert gcp(image={"name": "cuda"}).image_project == "acme-ml"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"regions": ["us-central1-a"]}, "is a zone; the region is 'us-central1'"),
        ({"regions": ["US"]}, "is not a Google Cloud region"),
        ({"regions": ["us-central1", "us-central1"]}, "listed twice"),
        ({"regions": []}, "at least 1"),
        ({"project": "X"}, "should match pattern"),
        ({"zones": ["europe-west4-a"]}, "not in regions"),
        ({"image": {}}, "exactly one of family and name"),
        ({"image": {"name": "a", "family": "b"}}, "exactly one of family and name"),
        ({"subnetwork": {"europe-west4": "x"}}, "not in regions"),
        ({"subnetwork": "x", "regions": ["us-central1", "europe-west4"]}, "belongs to one region"),
        ({"subnetwork": "x", "network": "y"}, "not both"),
        ({"service_account": "nobody"}, "should match pattern"),
        ({"network_tags": ["Not_Good"]}, "should match pattern"),
        ({"endpoint_url": "ftp://x"}, "http"),
    ],
)
def test_what_can_not_work_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        gcp(**settings)


def test_it_reads_back_what_it_prints() -> None:
    whole = gcp(
        zones=["us-central1-a"],
        auth={"credentials_file": "/etc/hostler/gcp.json"},
        subnetwork="training",
        accelerators=["nvidia-tesla-t4"],
        service_account="tasks@acme-ml.iam.gserviceaccount.com",
    )
    assert GcpProvider.model_validate(whole.to_dict()) == whole


def test_a_typo_in_fleet_yaml_is_told_with_the_nearest_key() -> None:
    text = (
        "version: 1\nproviders:\n  gcp: {type: gcp, projct: acme-ml, regions: [us-central1]}\n"
        "pools: {all: {providers: [gcp]}}\n"
    )
    with pytest.raises(ConfigError, match="did you mean 'project'"):
        parse_fleet(text, variables={})
