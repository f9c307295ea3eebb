"""The clouds' signatures, made with keys of our own: what a test trusts instead of the clouds' certificates."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BINARY = [pkcs7.PKCS7Options.Binary]
DAY = timedelta(days=1)
KEY_ID = "key-1"


class Authority:
    """A certificate authority that can vouch for others, or sign by itself as AWS does."""

    def __init__(self, name: str = "test authority") -> None:
        self.key = _key()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = _build(self.name, self.name, self.key.public_key(), self.key, is_authority=True)

    def pem(self) -> bytes:
        """For `identity_trust`."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def signer(self, host: str, days: int = 30) -> Signer:
        """A certificate for `host`, as servers have them."""
        key = _key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = _build(name, self.name, key.public_key(), self.key, host=host, days=days)
        return Signer(key, certificate)


class Signer:
    """A key and its certificate."""

    def __init__(self, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.certificate = certificate

    def sign(self, content: bytes, *, attributes: bool = True) -> str:
        """A PKCS #7 message around `content`, in base64 as metadata services give it."""
        options = BINARY if attributes else [*BINARY, pkcs7.PKCS7Options.NoAttributes]
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content)
        builder = builder.add_signer(self.certificate, self.key, hashes.SHA256())
        return base64.b64encode(builder.sign(serialization.Encoding.DER, options)).decode()


def aws_signer(authority: Authority) -> Signer:
    """AWS signs with the very certificate that it publishes."""
    return Signer(authority.key, authority.certificate)


class GoogleSigner:
    """Signs identity tokens; `key_set` is what Google would publish."""

    def __init__(self) -> None:
        self._key = _key()

    def key_set(self, key_id: str = KEY_ID) -> bytes:
        public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": key_id, "use": "sig", "alg": "RS256"}]}).encode()

    def token(self, claims: dict[str, Any], key_id: str = KEY_ID) -> str:
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": key_id})


def google_claims(audience: str, now: float, **machine: str) -> dict[str, Any]:
    """What a token of format=full says. `machine`: project_id, zone, instance_name, instance_id."""
    return {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "azp": "104152101507021361234",
        "sub": "104152101507021361234",
        "iat": int(now),
        "exp": int(now) + 3600,
        "google": {"compute_engine": {"instance_creation_timestamp": int(now), **machine}},
    }


def aws_document(instance_id: str, region: str, account: str, pending: float | None = None) -> bytes:
    started = datetime.fromtimestamp(time.time() if pending is None else pending, UTC)
    document = {
        "accountId": account,
        "architecture": "x86_64",
        "availabilityZone": f"{region}a",
        "imageId": "ami-0abcdef0123456789",
        "instanceId": instance_id,
        "instanceType": "g5.xlarge",
        "pendingTime": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": "10.0.0.7",
        "region": region,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2).encode()


def azure_document(
    nonce: str, vm_id: str, subscription: str, now: float, lifetime_seconds: float = 6 * 3600
) -> bytes:
    def told(at: float) -> str:
        return datetime.fromtimestamp(at, UTC).strftime("%m/%d/%y %H:%M:%S -0000")

    document = {
        "licenseType": "",
        "nonce": nonce,
        "plan": {"name": "", "product": "", "publisher": ""},
        "sku": "server",
        "subscriptionId": subscription,
        "timeStamp": {"createdOn": told(now), "expiresOn": told(now + lifetime_seconds)},
        "vmId": vm_id,
    }
    return json.dumps(document).encode()


def azure_answer(signature: str) -> str:
    return json.dumps({"encoding": "pkcs7", "signature": signature})


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def authority(name: str) -> Authority:
    """Making keys takes long: tests that need any authority share one by its name."""
    return Authority(name)


def _build(
    subject: x509.Name,
    issuer: x509.Name,
    public: rsa.RSAPublicKey,
    signing: rsa.RSAPrivateKey,
    *,
    is_authority: bool = False,
    host: str = "",
    days: int = 30,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
        .add_extension(_usage(is_authority), critical=True)
    )
    if host:
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = builder.add_extension(names, critical=False)
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(purposes, critical=False)
    return builder.sign(signing, hashes.SHA256())


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
