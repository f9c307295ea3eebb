"""The clouds' metadata services, as far as the agent needs them; each cloud's own variable moves its base URL."""

from __future__ import annotations

import email.utils
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from .. import challenge

TIMEOUT_SECONDS = 2.0
AWS_TOKEN_SECONDS = 21600
BODY_BYTES_MAX = 1024 * 1024
AZURE_EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
AZURE_ATTESTED = "/metadata/attested/document?api-version=2020-09-01"
_AWS_BASE, _AWS_VARIABLE = "http://169.254.169.254", "AWS_EC2_METADATA_SERVICE_ENDPOINT"
_GCP_BASE, _GCP_VARIABLE = "metadata.google.internal", "GCE_METADATA_HOST"
_AZURE_BASE, _AZURE_VARIABLE = "http://169.254.169.254", "AZURE_POD_IDENTITY_AUTHORITY_HOST"


class MetadataFailed(Exception):
    """The metadata service did not answer, or not with success."""


class Answer(NamedTuple):
    """`at` is the service's own clock in epoch seconds when it answered, None if it doesn't tell."""

    status: int
    text: str
    at: float | None


def fetch(
    base: str, path: str, headers: Mapping[str, str], method: str = "GET", body: bytes | None = None
) -> Answer:
    """One request, never through a proxy. Raises MetadataFailed when there is no answer."""
    parts = urlsplit(base if "//" in base else f"http://{base}")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, dict(headers))
        response = connection.getresponse()
        text = response.read(BODY_BYTES_MAX).decode(errors="replace")
        return Answer(response.status, text, epoch_of(response.headers.get("Date")))
    except (OSError, http.client.HTTPException) as error:
        raise MetadataFailed(f"{base}{path}: {error}") from error
    finally:
        connection.close()


def epoch_of(http_date: str | None) -> float | None:
    """Epoch seconds of an HTTP date; None if it is none."""
    if not http_date:
        return None
    try:
        return email.utils.parsedate_to_datetime(http_date).timestamp()
    except (TypeError, ValueError):
        return None


class Aws:
    """IMDSv2: every read carries a session token that we ask for first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = environ.get(_AWS_VARIABLE) or _AWS_BASE
        self._token = ""

    def get(self, path: str) -> Answer:
        """Raises MetadataFailed; 404 is an answer."""
        if not self._token:
            self._token = self._new_token()
        answer = fetch(self._base, path, {"X-aws-ec2-metadata-token": self._token})
        if answer.status == 401:
            self._token = self._new_token()
            answer = fetch(self._base, path, {"X-aws-ec2-metadata-token": self._token})
        return answer

    def identity(self) -> dict[str, str]:
        document = self.get("/latest/dynamic/instance-identity/document")
        signature = self.get("/latest/dynamic/instance-identity/rsa2048")
        if document.status != 200 or signature.status != 200:
            raise MetadataFailed("aws: no instance identity document")
        return {"kind": "aws", "document": document.text, "signature": signature.text}

    def _new_token(self) -> str:
        wish = {"X-aws-ec2-metadata-token-ttl-seconds": str(AWS_TOKEN_SECONDS)}
        answer = fetch(self._base, "/latest/api/token", wish, "PUT")
        if answer.status != 200:
            raise MetadataFailed(f"aws: no metadata token: {answer.status}")
        return answer.text


class Gcp:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = environ.get(_GCP_VARIABLE) or _GCP_BASE

    def get(self, path: str) -> Answer:
        """`path` below /computeMetadata/v1/instance. Raises MetadataFailed."""
        return fetch(self._base, f"/computeMetadata/v1/instance{path}", {"Metadata-Flavor": "Google"})

    def identity(self, audience: str) -> dict[str, str]:
        answer = self.get(
            f"/service-accounts/default/identity?audience={quote(audience, safe='')}&format=full"
        )
        if answer.status != 200:
            raise MetadataFailed(f"gcp: no identity token: {answer.status}")
        return {"kind": "gcp", "document": answer.text, "signature": ""}


class Azure:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._base = environ.get(_AZURE_VARIABLE) or _AZURE_BASE

    def events(self) -> tuple[list[dict[str, Any]], float | None]:
        """Scheduled events and the service's clock. Raises MetadataFailed."""
        answer = fetch(self._base, AZURE_EVENTS, {"Metadata": "true"})
        try:
            events = json.loads(answer.text)["Events"] if answer.status == 200 else []
        except (ValueError, KeyError, TypeError) as error:
            raise MetadataFailed(f"azure: scheduled events: {error}") from error
        return [event for event in events if isinstance(event, dict)], answer.at

    def acknowledge(self, event_id: str) -> None:
        """Tell the cloud that it need not wait. Raises MetadataFailed."""
        body = json.dumps({"StartRequests": [{"EventId": event_id}]}).encode()
        fetch(self._base, AZURE_EVENTS, {"Metadata": "true"}, "POST", body)

    def name(self) -> str:
        answer = fetch(
            self._base,
            "/metadata/instance/compute/name?api-version=2021-02-01&format=text",
            {"Metadata": "true"},
        )
        return answer.text.strip() if answer.status == 200 else ""

    def identity(self, nonce: str) -> dict[str, str]:
        answer = fetch(self._base, f"{AZURE_ATTESTED}&nonce={nonce}", {"Metadata": "true"})
        if answer.status != 200:
            raise MetadataFailed(f"azure: no attested document: {answer.status}")
        return {"kind": "azure", "document": answer.text, "signature": ""}


def identity(cloud: str, url: str, join_token: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What proves to the server at `url` which instance this is, for this one join.

    Empty where there is no cloud. Raises MetadataFailed.
    """
    if cloud == "aws":
        return Aws(environ).identity()
    if cloud == "gcp":
        return Gcp(environ).identity(challenge.audience(url, join_token))
    if cloud == "azure":
        return Azure(environ).identity(challenge.digits(join_token))
    return {}
