"""The policy that the documentation tells people to apply holds every call that the provider makes, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hostler

ROOT = Path(hostler.__file__).parent
CALL = re.compile(r'"(ec2|ssm|sts|pricing|sqs|service-quotas):([a-z_]+)"')
SERVICES = {"service-quotas": "servicequotas"}
BATCHES = {"DeleteMessageBatch": "DeleteMessage"}
WITHOUT_A_CALL_OF_OURS = {"ec2:CreateTags", "iam:PassRole"}
"""What RunInstances asks for beside itself."""


def calls_made() -> set[str]:
    found = set()
    for path in (ROOT / "providers" / "aws").glob("*.py"):
        for service, method in CALL.findall(path.read_text()):
            name = "".join(word.capitalize() for word in method.split("_"))
            found.add(f"{SERVICES.get(service, service)}:{BATCHES.get(name, name)}")
    return found


def calls_allowed() -> set[str]:
    policy = json.loads((ROOT / "docs" / "providers" / "aws-policy.json").read_text())
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {one for action in actions for one in ([action] if isinstance(action, str) else action)}


def test_the_policy_allows_every_call_and_no_other() -> None:
    assert len(calls_made()) >= 10
    assert calls_made() == calls_allowed() - WITHOUT_A_CALL_OF_OURS
