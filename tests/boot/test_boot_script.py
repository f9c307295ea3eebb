"""Each machine is told the cloud it is in, by the offer that bought it; a retry sends the same bytes."""

from __future__ import annotations

from hostler.config.fleet import FleetConfig
from hostler.fleet.daemon.boot_script import BootScript

FLEET = FleetConfig.model_validate(
    {
        "version": 1,
        "daemon": {"url": "https://fleet.example"},
        "providers": {
            "amazon": {"type": "aws", "regions": ["us-east-1"]},
            "google": {"type": "gcp", "project": "acme-ml", "regions": ["us-central1"]},
            "here": {"type": "local"},
        },
        "pools": {"main": {"providers": ["amazon", "google", "here"], "market": "spot"}},
    }
)


def script(provider: str) -> str:
    render = BootScript(lambda: FLEET, "https://fleet.example", "0" * 64, "")
    return render("h-aaaaaaaaaaaa", "hj_token", provider)


def test_with_several_clouds_each_machine_looks_at_its_own_metadata_service() -> None:
    assert '"cloud": "aws"' in script("amazon")
    assert '"cloud": "gcp"' in script("google")


def test_machines_of_no_cloud_look_nowhere() -> None:
    assert '"cloud": ""' in script("here")
    assert '"cloud": ""' in script("a provider that was taken out")


def test_a_retry_sends_the_same_bytes() -> None:
    assert script("amazon") == script("amazon")
