"""Signed messages (PKCS #7): what was signed, by which certificate, and whether a key made the signature.

`cryptography` makes such messages but does not verify them; their structure is read with asn1crypto and each
signature is verified with `cryptography`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

from asn1crypto import cms
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from .refusal import Code, IdentityRefused

MESSAGE_CHARACTERS_MAX: Final = 64 * 1024
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_ALSO_CALLED: Final = {
    # Azure names the signature's algorithm where the digest's belongs.
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
}


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """`content` as signed. `signer` is the certificate that came along for it, not to be trusted by itself."""

    content: bytes
    signer: x509.Certificate | None
    others: tuple[x509.Certificate, ...]
    signature: bytes
    covered: bytes
    """The bytes that the signature is over."""
    digest: str

    def is_signed_by(self, certificate: x509.Certificate) -> bool:
        """Whether the key of `certificate` made the signature."""
        key, algorithm = certificate.public_key(), _HASHES[self.digest]()
        try:
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(self.signature, self.covered, padding.PKCS1v15(), algorithm)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.signature, self.covered, ec.ECDSA(algorithm))
            else:
                return False
        except InvalidSignature:
            return False
        return True


def read(text: str) -> SignedMessage:
    """A message in base64, as metadata services give it. Raises IdentityRefused (MALFORMED, FORGED)."""
    if len(text) > MESSAGE_CHARACTERS_MAX:
        raise IdentityRefused(Code.MALFORMED, f"the signature is over {MESSAGE_CHARACTERS_MAX} characters")
    try:
        return _read(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, TypeError, KeyError, IndexError, binascii.Error) as error:
        raise IdentityRefused(Code.MALFORMED, f"the signature can't be read: {error}") from error


def _read(data: bytes) -> SignedMessage:
    outer = cms.ContentInfo.load(data, strict=True)
    if outer["content_type"].native != "signed_data":
        raise ValueError("it is not a signed message")
    signed = outer["content"]
    inner = signed["encap_content_info"]["content"]
    if inner.native is None:
        raise ValueError("it does not hold what was signed")
    content = bytes(inner)
    signers = signed["signer_infos"]
    if len(signers) != 1:
        raise ValueError(f"it has {len(signers)} signatures, not one")
    signer = signers[0]
    name = signer["digest_algorithm"]["algorithm"].native
    digest = _ALSO_CALLED.get(name, name)
    if digest not in _HASHES:
        raise ValueError(f"its digest {name} is not accepted")
    certificates = _certificates(signed["certificates"])
    own = next((one for one in certificates if _is_of(one, signer["sid"])), None)
    return SignedMessage(
        content=content,
        signer=own,
        others=tuple(one for one in certificates if one is not own),
        signature=signer["signature"].native,
        covered=_covered(signer["signed_attrs"], content, digest),
        digest=digest,
    )


def _certificates(given: Any) -> list[x509.Certificate]:
    if given.native is None:
        return []
    found = [one.chosen for one in given if one.name == "certificate"]
    return [x509.load_der_x509_certificate(one.dump()) for one in found]


def _is_of(certificate: x509.Certificate, signer_id: Any) -> bool:
    if signer_id.name != "issuer_and_serial_number":
        extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return bool(extension.value.digest == signer_id.chosen.native)
    chosen = signer_id.chosen
    return bool(
        certificate.serial_number == chosen["serial_number"].native
        and certificate.issuer.public_bytes() == chosen["issuer"].dump()
    )


def _covered(attributes: Any, content: bytes, digest: str) -> bytes:
    """Without attributes the content itself is signed; with them they are, and must hold the content's digest."""
    if attributes.native is None:
        return content
    named: dict[str, Any] = {one["type"].native: one["values"] for one in attributes}
    told = named["message_digest"]
    if len(told) != 1 or not hmac.compare_digest(told[0].native, hashlib.new(digest, content).digest()):
        raise IdentityRefused(Code.FORGED, "the signature is over another document")
    covered: bytes = attributes.untag().dump()
    return covered
