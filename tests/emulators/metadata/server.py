"""One machine's metadata service: AWS's, Google's or Azure's, with notices and identities that a test controls."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from . import signing

AWS_TOKEN = "IMDSv2-token"
_AWS_VERSION = re.compile(r"^/(latest|\d{4}-\d{2}-\d{2})/")


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


NOT_FOUND = Answer(404, "Not Found")


class Service(Protocol):
    """What one cloud answers on its link-local address."""

    def answer(self, request: Request) -> Answer: ...


@dataclass
class AwsMetadata:
    """IMDSv2 of one instance. `signer` makes its identity documents; without one it has none."""

    instance_id: str
    region: str = "us-east-1"
    account: str = "123456789012"
    signer: signing.Signer | None = None
    user_data: str = ""
    launched_at: float = field(default_factory=time.time)
    allow_v1: bool = False
    """cloud-init in a container asks without a token."""
    _action: dict[str, str] | None = None
    _rebalance: dict[str, str] | None = None

    def interrupt(self, seconds: float = 120.0) -> None:
        """The two-minute notice."""
        self._action = {"action": "terminate", "time": _iso(time.time() + seconds)}

    def recommend_rebalance(self) -> None:
        self._rebalance = {"noticeTime": _iso(time.time())}

    def answer(self, request: Request) -> Answer:
        if request.path == "/latest/api/token":
            wish = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            return Answer(200, AWS_TOKEN) if request.method == "PUT" and wish.isdigit() else Answer(400)
        if request.headers.get("x-aws-ec2-metadata-token") != AWS_TOKEN and not self.allow_v1:
            return Answer(401, "Unauthorized")
        path = _AWS_VERSION.sub("/", request.path)
        documents = self._documents()
        if path.endswith("/") or path in ("/meta-data", "/dynamic"):
            listed = _listing(documents, path.rstrip("/") + "/")
            return Answer(200, listed) if listed else NOT_FOUND
        found = documents.get(path)
        return NOT_FOUND if found is None else Answer(200, found)

    def _documents(self) -> dict[str, str]:
        found = {
            "/meta-data/instance-id": self.instance_id,
            "/meta-data/ami-id": "ami-0abcdef0123456789",
            "/meta-data/hostname": "ip-10-0-0-7.ec2.internal",
            "/meta-data/local-hostname": "ip-10-0-0-7.ec2.internal",
            "/user-data": self.user_data,
        }
        if self._action is not None:
            found["/meta-data/spot/instance-action"] = json.dumps(self._action)
        if self._rebalance is not None:
            found["/meta-data/events/recommendations/rebalance"] = json.dumps(self._rebalance)
        if self.signer is not None:
            document = signing.aws_document(self.instance_id, self.region, self.account, self.launched_at)
            found["/dynamic/instance-identity/document"] = document.decode()
            found["/dynamic/instance-identity/rsa2048"] = _in_lines(self.signer.sign(document))
        return found


@dataclass
class GcpMetadata:
    """Compute Engine's. `signer` None: an instance without a service account, which has no identity."""

    name: str
    zone: str = "us-central1-a"
    project: str = "acme-ml"
    instance_id: str = "4520031799277581759"
    signer: signing.GoogleSigner | None = None
    user_data: str = ""
    preempted: threading.Event = field(default_factory=threading.Event)

    def preempt(self) -> None:
        self.preempted.set()

    def answer(self, request: Request) -> Answer:
        if request.headers.get("metadata-flavor") != "Google":
            return Answer(403, "Missing Metadata-Flavor:Google header.")
        path = request.path.removeprefix("/computeMetadata/v1/instance")
        flavor = (("Metadata-Flavor", "Google"),)
        if path == "/preempted":
            told = self.preempted.is_set()
            if request.query.get("wait_for_change") == "true" and request.query.get("last_etag") == str(told):
                told = self.preempted.wait(float(request.query.get("timeout_sec", "30")))
            return Answer(200, "TRUE" if told else "FALSE", (*flavor, ("ETag", str(told))))
        if path == "/service-accounts/default/identity":
            return self._identity(request.query)
        known = {
            "/name": self.name,
            "/id": self.instance_id,
            "/zone": f"projects/1/zones/{self.zone}",
            "/attributes/startup-script": self.user_data,
        }
        return Answer(200, known[path], flavor) if path in known else NOT_FOUND

    def _identity(self, query: dict[str, str]) -> Answer:
        if self.signer is None:
            return NOT_FOUND
        if not query.get("audience"):
            return Answer(400, "non-empty audience parameter required")
        claims = signing.google_claims(
            query["audience"],
            time.time(),
            project_id=self.project,
            zone=self.zone,
            instance_name=self.name,
            instance_id=self.instance_id,
        )
        if query.get("format") != "full":
            del claims["google"]
        return Answer(200, self.signer.token(claims))


@dataclass
class AzureMetadata:
    """Azure's. Events are shown until they are acknowledged by a POST that starts them."""

    name: str
    vm_id: str = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    subscription: str = "8d10da13-8125-4ba9-a717-bf7490507b3d"
    signer: signing.Signer | None = None
    user_data: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def preempt(self, seconds: float = 30.0, *, resources: list[str] | None = None) -> str:
        """Schedule the eviction; returns its event id."""
        event_id = f"event-{len(self.events) + len(self.started) + 1}"
        self.events.append(
            {
                "EventId": event_id,
                "EventType": "Preempt",
                "ResourceType": "VirtualMachine",
                "Resources": [self.name] if resources is None else resources,
                "EventStatus": "Scheduled",
                "NotBefore": formatdate(time.time() + seconds, usegmt=True),
            }
        )
        return event_id

    def answer(self, request: Request) -> Answer:
        if request.headers.get("metadata") != "true" or "api-version" not in request.query:
            return Answer(
                400, '{"error": "Bad request. Required metadata header or api-version not specified"}'
            )
        if request.path == "/metadata/scheduledevents":
            return self._scheduled(request)
        if request.path == "/metadata/instance/compute/name":
            return Answer(200, self.name)
        if request.path == "/metadata/attested/document" and self.signer is not None:
            nonce = request.query.get("nonce", "")
            if nonce and not (nonce.isdigit() and len(nonce) <= 10):
                return Answer(400, '{"error": "Invalid nonce"}')
            content = signing.azure_document(nonce, self.vm_id, self.subscription, time.time())
            return Answer(200, signing.azure_answer(self.signer.sign(content, attributes=False)))
        return NOT_FOUND

    def _scheduled(self, request: Request) -> Answer:
        if request.method == "POST":
            for one in json.loads(request.body)["StartRequests"]:
                self.started.append(str(one["EventId"]))
            self.events = [one for one in self.events if one["EventId"] not in self.started]
            return Answer(200)
        return Answer(200, json.dumps({"DocumentIncarnation": len(self.started) + 1, "Events": self.events}))


class MetadataServer:
    """Context manager. In a namespace of its own it takes 169.254.169.254:80; elsewhere any free loopback port."""

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        self.service = service
        self.requests: list[Request] = []
        self._address = (host, port)

    def __enter__(self) -> Self:
        self._server = _Server(self._address, _Handler)
        self._server.owner = self
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def environ(self) -> dict[str, str]:
        """The clouds' own variables that lead their tools, and our agent, here."""
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url,
            "GCE_METADATA_HOST": self.url.removeprefix("http://"),
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.url,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: MetadataServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            parts.path,
            {name: values[0] for name, values in parse_qs(parts.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length", 0))),
        )
        self.server.owner.requests.append(request)
        answer = self.server.owner.service.answer(request)
        body = answer.text.encode()
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet: pytest shows what matters."""


def _listing(documents: dict[str, str], folder: str) -> str:
    """The names right below `folder`, one a line; those of folders end with a slash."""
    below = [path.removeprefix(folder) for path in documents if path.startswith(folder)]
    return "\n".join(sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below}))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _in_lines(text: str, width: int = 64) -> str:
    return "\n".join(text[start : start + width] for start in range(0, len(text), width))
