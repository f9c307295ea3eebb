"""Signed identities as the server judges them; each is signed for real, by keys that the test trusts."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from emulators.metadata import signing
from emulators.metadata.signing import GoogleSigner, Signer
from hostler.agent_bootstrap import challenge
from hostler.config.aws import AwsProvider
from hostler.config.azure import AzureProvider
from hostler.config.gcp import GcpProvider
from hostler.config.local import LocalProvider
from hostler.fleet.observer.identity import Expected, IdentityGate, IdentityRefused, aws
from hostler.fleet.observer.identity.keys import FETCHED_AGAIN_SECONDS, KEPT_SECONDS, FetchFailed
from hostler.fleet.observer.identity.refusal import Code

NOW = float(int(time.time()))
"""Certificates are made now, and judged at a time that is handed in."""
URL = "https://fleet.example:8480"
TOKEN = "hj_join-token"
SUBSCRIPTION = "8d10da13-8125-4ba9-a717-bf7490507b3d"
VM_ID = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
SUBNET = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/ml/providers/Microsoft.Network/virtualNetworks/n/subnets/s"
)
MACHINE = {"project_id": "acme-ml", "zone": "us-central1-a", "instance_name": "h-one", "instance_id": "42"}
Identity = dict[str, str]


@cache
def amazon() -> Signer:
    return signing.aws_signer(signing.authority("amazon"))


@cache
def google() -> GoogleSigner:
    return GoogleSigner()


@cache
def microsoft() -> Signer:
    return signing.authority("microsoft").signer("metadata.azure.com", days=3650)


def section(kind: str, folder: Path, **changes: Any) -> Any:
    """A provider's section that trusts the test's own keys."""
    trust = folder / f"{kind}.trust"
    contents = {
        "aws": signing.authority("amazon").pem(),
        "gcp": google().key_set(),
        "azure": signing.authority("microsoft").pem(),
    }
    trust.write_bytes(contents[kind])
    given: dict[str, dict[str, Any]] = {
        "aws": {"regions": ["us-east-1"]},
        "gcp": {"project": "acme-ml", "regions": ["us-central1"]},
        "azure": {
            "subscription": SUBSCRIPTION,
            "resource_group": "ml",
            "regions": ["eastus"],
            "subnets": SUBNET,
        },
    }
    models: dict[str, Any] = {"aws": AwsProvider, "gcp": GcpProvider, "azure": AzureProvider}
    asked = {"type": kind, "identity": "required", "identity_trust": str(trust), **given[kind], **changes}
    return models[kind].model_validate(asked)


def expected(kind: str, **changes: Any) -> Expected:
    refs = {"aws": "us-east-1/i-0a1b", "gcp": "us-central1-a/h-one", "azure": "h-one"}
    ids = {"aws": "123456789012", "gcp": "42", "azure": VM_ID.upper()}
    known = Expected("h-one", "default", kind, refs[kind], ids[kind], NOW - 60)
    return dataclasses.replace(known, **changes)


def check(kind: str, folder: Path, shown: Identity, *, rule: str = "required", **changes: Any) -> bool:
    asked = section(kind, folder, identity=rule)
    return IdentityGate(URL).check(expected(kind, **changes), asked, shown, TOKEN, NOW)


def refusal(kind: str, folder: Path, shown: Identity, **changes: Any) -> IdentityRefused:
    with pytest.raises(IdentityRefused) as caught:
        check(kind, folder, shown, **changes)
    return caught.value


def aws_identity(
    instance_id: str = "i-0a1b",
    region: str = "us-east-1",
    account: str = "123456789012",
    *,
    pending: float = NOW - 30,
    signer: Signer | None = None,
    attributes: bool = True,
) -> Identity:
    document = signing.aws_document(instance_id, region, account, pending)
    signature = (signer or amazon()).sign(document, attributes=attributes)
    return {"kind": "aws", "document": document.decode(), "signature": signature}


def gcp_identity(
    *,
    token: str = TOKEN,
    at: float = NOW,
    signer: GoogleSigner | None = None,
    machine: Mapping[str, str] = MACHINE,
    **claims: Any,
) -> Identity:
    made = signing.google_claims(challenge.audience(URL, token), at, **machine)
    return {"kind": "gcp", "document": (signer or google()).token({**made, **claims}), "signature": ""}


def azure_identity(
    *,
    token: str = TOKEN,
    vm_id: str = VM_ID,
    subscription: str = SUBSCRIPTION,
    at: float = NOW,
    signer: Signer | None = None,
) -> Identity:
    content = signing.azure_document(challenge.digits(token), vm_id, subscription, at)
    signature = (signer or microsoft()).sign(content, attributes=False)
    return {"kind": "azure", "document": signing.azure_answer(signature), "signature": ""}


GENUINE: Mapping[str, Callable[[], Identity]] = {
    "aws": aws_identity,
    "gcp": gcp_identity,
    "azure": azure_identity,
}


@pytest.mark.parametrize("kind", GENUINE)
def test_a_genuine_identity_proves_the_machine(kind: str, tmp_path: Path) -> None:
    assert check(kind, tmp_path, GENUINE[kind]())


def test_aws_signs_with_and_without_attributes(tmp_path: Path) -> None:
    assert check("aws", tmp_path, aws_identity(attributes=False))


FORGERIES: Mapping[str, Callable[[], tuple[str, Identity]]] = {
    "aws: signed by another": lambda: (
        "aws",
        aws_identity(signer=signing.aws_signer(signing.authority("x"))),
    ),
    "aws: document changed after signing": lambda: ("aws", _with_content_changed(aws_identity())),
    "gcp: signed by another": lambda: ("gcp", gcp_identity(signer=GoogleSigner())),
    "gcp: a key that Google doesn't have": lambda: ("gcp", _google_key("other")),
    "gcp: another issuer": lambda: ("gcp", gcp_identity(iss="https://accounts.evil.example")),
    "gcp: no signature at all": lambda: ("gcp", _unsigned(gcp_identity())),
    "azure: its own authority": lambda: (
        "azure",
        azure_identity(signer=signing.authority("x").signer("metadata.azure.com")),
    ),
    "azure: vouched for, but as another host": lambda: (
        "azure",
        azure_identity(signer=signing.authority("microsoft").signer("shop.example")),
    ),
    "azure: content changed after signing": lambda: ("azure", _azure_changed(azure_identity())),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_identity_is_refused(case: str, tmp_path: Path) -> None:
    kind, identity = FORGERIES[case]()
    assert refusal(kind, tmp_path, identity).code is Code.FORGED


WRONG: Mapping[str, Callable[[], tuple[str, Identity]]] = {
    "aws: another instance": lambda: ("aws", aws_identity("i-0ffff")),
    "aws: another region": lambda: ("aws", aws_identity(region="eu-west-1")),
    "aws: another account": lambda: ("aws", aws_identity(account="999999999999")),
    "gcp: another name": lambda: ("gcp", gcp_identity(machine={**MACHINE, "instance_name": "h-two"})),
    "gcp: another zone": lambda: ("gcp", gcp_identity(machine={**MACHINE, "zone": "us-central1-b"})),
    "gcp: another project": lambda: ("gcp", gcp_identity(machine={**MACHINE, "project_id": "evil"})),
    "gcp: an earlier machine of that name": lambda: (
        "gcp",
        gcp_identity(machine={**MACHINE, "instance_id": "41"}),
    ),
    "azure: another machine": lambda: ("azure", azure_identity(vm_id=SUBSCRIPTION)),
    "azure: another subscription": lambda: ("azure", azure_identity(subscription=VM_ID)),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_identity_of_another_machine_is_refused(case: str, tmp_path: Path) -> None:
    kind, identity = WRONG[case]()
    assert refusal(kind, tmp_path, identity).code is Code.WRONG_INSTANCE


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("gcp", lambda: gcp_identity(token="another join")),
        ("gcp", lambda: gcp_identity(aud="https://another.example")),
        ("azure", lambda: azure_identity(token="another join")),
    ],
)
def test_an_identity_made_for_another_join_is_refused(
    kind: str, make: Callable[[], Identity], tmp_path: Path
) -> None:
    assert refusal(kind, tmp_path, make()).code is Code.REPLAYED


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("aws", lambda: aws_identity(pending=NOW - 3600)),
        ("aws", lambda: aws_identity(pending=NOW + 3600)),
        ("gcp", lambda: gcp_identity(at=NOW - 2 * 3600)),
        ("gcp", lambda: gcp_identity(at=NOW + 3600)),
        ("azure", lambda: azure_identity(at=NOW - 7 * 3600)),
        ("azure", lambda: azure_identity(at=NOW + 3600)),
    ],
)
def test_an_identity_of_another_time_is_refused(
    kind: str, make: Callable[[], Identity], tmp_path: Path
) -> None:
    assert refusal(kind, tmp_path, make()).code is Code.EXPIRED


def test_an_imported_machine_may_be_older_than_its_row(tmp_path: Path) -> None:
    assert check("aws", tmp_path, aws_identity(pending=NOW - 86_400), since=None)


@pytest.mark.parametrize("kind", GENUINE)
@pytest.mark.parametrize("rubbish", ["", "{}", "AAAA", "not base64!", "a.b.c", '{"encoding": "pkcs7"}', "[]"])
def test_rubbish_is_refused_as_malformed(kind: str, rubbish: str, tmp_path: Path) -> None:
    identity = {"kind": kind, "document": rubbish, "signature": rubbish}
    assert refusal(kind, tmp_path, identity).code is Code.MALFORMED


@pytest.mark.parametrize("kind", GENUINE)
def test_a_huge_identity_is_refused_unread(kind: str, tmp_path: Path) -> None:
    huge = "A" * 1_000_000
    found = refusal(kind, tmp_path, {"kind": kind, "document": huge, "signature": huge})
    assert found.code is Code.MALFORMED


def test_a_message_that_holds_no_content_is_refused(tmp_path: Path) -> None:
    document = signing.aws_document("i-0a1b", "us-east-1", "123456789012", NOW)
    options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature]
    builder = pkcs7.PKCS7SignatureBuilder().set_data(document)
    builder = builder.add_signer(amazon().certificate, amazon().key, hashes.SHA256())
    signature = base64.b64encode(builder.sign(serialization.Encoding.DER, options)).decode()
    identity = {"kind": "aws", "document": document.decode(), "signature": signature}
    assert refusal("aws", tmp_path, identity).code is Code.MALFORMED


@pytest.mark.parametrize("kind", GENUINE)
def test_without_an_identity_a_machine_joins_only_where_none_is_required(kind: str, tmp_path: Path) -> None:
    assert refusal(kind, tmp_path, {}).code is Code.MISSING
    assert not check(kind, tmp_path, {}, rule="if_present")
    assert not check(kind, tmp_path, {"kind": kind, "document": "rubbish"}, rule="off")


def test_what_is_present_must_be_right_even_where_it_is_not_required(tmp_path: Path) -> None:
    assert check("aws", tmp_path, aws_identity(), rule="if_present")
    assert refusal("aws", tmp_path, aws_identity("i-0ffff"), rule="if_present").code is Code.WRONG_INSTANCE


@pytest.mark.parametrize("kind", GENUINE)
def test_a_machine_faster_than_the_answer_to_its_launch_has_to_wait(kind: str, tmp_path: Path) -> None:
    found = refusal(kind, tmp_path, GENUINE[kind](), ref=None, identity=None)
    assert (found.code, found.retry) == (Code.NOT_KNOWN_YET, True)


def test_an_azure_machine_has_to_wait_until_its_vm_id_is_known(tmp_path: Path) -> None:
    assert refusal("azure", tmp_path, azure_identity(), identity=None).code is Code.NOT_KNOWN_YET


def test_local_processes_have_no_identity_to_show() -> None:
    here = LocalProvider.model_validate({"type": "local"})
    assert not IdentityGate(URL).check(expected("aws"), here, {}, TOKEN, NOW)
    assert not IdentityGate(URL).check(expected("aws"), None, {}, TOKEN, NOW)


def test_clouds_whose_machines_can_always_prove_themselves_must_have_them_do_so(tmp_path: Path) -> None:
    rules = {
        kind: section(kind, tmp_path, identity=None, identity_trust=None).identity_rule for kind in GENUINE
    }
    assert rules == {"aws": "required", "gcp": "if_present", "azure": "if_present"}
    assert section("gcp", tmp_path, identity=None, service_account="default").identity_rule == "required"
    assert section("azure", tmp_path, identity=None).identity_rule == "required"


def test_amazons_own_certificates_are_pinned_for_each_region() -> None:
    pinned = json.loads(aws.PINNED.read_text())
    assert pinned["from"].startswith("https://docs.aws.amazon.com/")
    assert {"us-east-1", "eu-central-1", "ap-northeast-1", "us-gov-west-1"} <= pinned["certificates"].keys()
    for region in pinned["certificates"]:
        (certificate,) = aws.pinned(region)
        certificate.verify_directly_issued_by(certificate)
        assert isinstance(certificate, x509.Certificate)


def test_only_the_pinned_certificates_are_trusted_unless_others_are_named(tmp_path: Path) -> None:
    plain = section("aws", tmp_path, identity_trust=None)
    with pytest.raises(IdentityRefused) as caught:
        IdentityGate(URL).check(expected("aws"), plain, aws_identity(), TOKEN, NOW)
    assert caught.value.code is Code.FORGED


def test_a_region_newer_than_the_release_is_told_with_the_way_out(tmp_path: Path) -> None:
    plain = section("aws", tmp_path, identity_trust=None)
    with pytest.raises(IdentityRefused) as caught:
        IdentityGate(URL).check(
            expected("aws", ref="xx-new-9/i-0a1b"), plain, aws_identity(region="xx-new-9"), TOKEN, NOW
        )
    assert caught.value.code is Code.UNVERIFIABLE
    assert "identity_trust" in caught.value.hint


def test_a_trust_file_that_cannot_be_read_refuses_and_says_so(tmp_path: Path) -> None:
    broken = section("aws", tmp_path)
    (tmp_path / "aws.trust").write_text("nothing")
    with pytest.raises(IdentityRefused) as caught:
        IdentityGate(URL).check(expected("aws"), broken, aws_identity(), TOKEN, NOW)
    assert (caught.value.code, caught.value.retry) == (Code.UNVERIFIABLE, True)


class Google:
    """What publishes Google's keys; `monotonic` is a clock that stands still until told."""

    def __init__(self) -> None:
        self.fetched = 0
        self.keys = google().key_set()
        self.down = False
        self.now = 0.0

    def fetch(self, _url: str) -> bytes:
        self.fetched += 1
        if self.down:
            raise FetchFailed("connection refused")
        return self.keys

    def gate(self) -> IdentityGate:
        return IdentityGate(URL, fetch=self.fetch, monotonic=lambda: self.now)


def join_at(gate: IdentityGate, folder: Path, identity: Identity | None = None) -> bool:
    asked = section("gcp", folder, identity_trust=None)
    return gate.check(expected("gcp"), asked, identity or gcp_identity(), TOKEN, NOW)


def test_googles_keys_are_fetched_once_for_many_joins(tmp_path: Path) -> None:
    world = Google()
    gate = world.gate()
    assert all(join_at(gate, tmp_path) for _ in range(5))
    assert world.fetched == 1
    world.now = KEPT_SECONDS
    assert join_at(gate, tmp_path)
    assert world.fetched == 2


def test_made_up_key_ids_do_not_hammer_google(tmp_path: Path) -> None:
    world = Google()
    gate = world.gate()
    for _ in range(10):
        with pytest.raises(IdentityRefused):
            join_at(gate, tmp_path, _google_key("made-up"))
    assert world.fetched == 1


def test_a_key_that_google_has_just_begun_to_use_is_found(tmp_path: Path) -> None:
    world = Google()
    gate = world.gate()
    assert join_at(gate, tmp_path)
    world.keys = google().key_set("key-2")
    world.now = FETCHED_AGAIN_SECONDS
    assert join_at(gate, tmp_path, _google_key("key-2"))


def test_old_keys_serve_while_google_is_down_and_without_any_the_machine_waits(tmp_path: Path) -> None:
    world = Google()
    gate = world.gate()
    assert join_at(gate, tmp_path)
    world.now, world.down = KEPT_SECONDS, True
    assert join_at(gate, tmp_path)
    with pytest.raises(IdentityRefused) as caught:
        join_at(world.gate(), tmp_path)
    assert (caught.value.code, caught.value.retry) == (Code.UNVERIFIABLE, True)


def test_openssl_agrees_with_us_about_a_signature(tmp_path: Path) -> None:
    """As AWS's documentation verifies it: the same messages must be good, and bad, to both."""
    identity = aws_identity()
    (tmp_path / "certificate").write_bytes(signing.authority("amazon").pem())
    for text, good in ((identity["signature"], True), (_with_content_changed(identity)["signature"], False)):
        (tmp_path / "rsa2048").write_bytes(base64.b64decode(text))
        told = subprocess.run(
            [
                "openssl",
                "smime",
                "-verify",
                "-in",
                "rsa2048",
                "-inform",
                "DER",
                "-certfile",
                "certificate",
                "-noverify",
                "-nointern",
            ],
            cwd=tmp_path,
            capture_output=True,
        )
        assert (told.returncode == 0) is good, told.stderr
        if good:
            assert told.stdout.decode() == identity["document"]


def test_the_challenge_is_the_joins_own_and_fits_each_cloud() -> None:
    assert challenge.nonce("one") != challenge.nonce("two")
    assert challenge.audience(URL + "/", TOKEN) == challenge.audience(URL, TOKEN)
    assert len(challenge.digits(TOKEN)) == 10
    assert challenge.digits(TOKEN).isdigit()
    assert TOKEN not in challenge.audience(URL, TOKEN)


def _with_content_changed(identity: Identity) -> Identity:
    data = base64.b64decode(identity["signature"])
    assert data.count(b"i-0a1b") == 1
    changed = base64.b64encode(data.replace(b"i-0a1b", b"i-0a1c")).decode()
    return {**identity, "signature": changed}


def _azure_changed(identity: Identity) -> Identity:
    data = base64.b64decode(json.loads(identity["document"])["signature"])
    changed = data.replace(VM_ID.encode(), VM_ID.replace("0", "1").encode())
    assert changed != data
    return {**identity, "document": signing.azure_answer(base64.b64encode(changed).decode())}


def _google_key(key_id: str) -> Identity:
    claims = signing.google_claims(challenge.audience(URL, TOKEN), NOW, **MACHINE)
    return {"kind": "gcp", "document": google().token(claims, key_id), "signature": ""}


def _unsigned(identity: Identity) -> Identity:
    claims = jwt.decode(identity["document"], options={"verify_signature": False})
    token = jwt.encode(claims, "", algorithm="none", headers={"kid": signing.KEY_ID})
    return {**identity, "document": token}
