"""The clouds' notices, read from a small metadata server that answers as theirs do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hostler.agent_bootstrap.agent.metadata import MetadataFailed, identity
from hostler.agent_bootstrap.agent.notice import AwsWatcher, AzureWatcher, FileWatcher, GcpWatcher, Notice

SERVICE_TIME = 1_900_000_000.0
"""The service's clock in these tests, years away from the machine's: only the service's own may count."""


class Metadata:
    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.posts: list[str] = []
        self.token = "session-1"
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Quiet."""

            def do_PUT(self) -> None:
                asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
                self.answer(200 if asked else 400, owner.token)

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                kind = path.split("/")[1]
                header = {
                    "latest": self.headers.get("X-aws-ec2-metadata-token") == owner.token,
                    "computeMetadata": self.headers.get("Metadata-Flavor") == "Google",
                    "metadata": self.headers.get("Metadata") == "true",
                }[kind]
                if not header:
                    self.answer(401, "")
                elif path in owner.answers:
                    self.answer(200, owner.answers[path])
                else:
                    self.answer(404, "")

            def do_POST(self) -> None:
                owner.posts.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.answer(200, "")

            def answer(self, status: int, text: str) -> None:
                self.send_response_only(status)
                self.send_header("Date", formatdate(SERVICE_TIME, usegmt=True))
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.http.server_address[1]}"
        self.environ = {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self.host}",
            "GCE_METADATA_HOST": self.host,
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{self.host}",
        }
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    server = Metadata()
    yield server
    server.http.shutdown()
    server.http.server_close()


def test_aws_tells_a_rebalance_first_and_then_the_interruption(metadata: Metadata) -> None:
    watcher = AwsWatcher(metadata.environ)
    assert watcher.poll() is None
    metadata.answers["/latest/meta-data/events/recommendations/rebalance"] = (
        '{"noticeTime": "2030-03-17T17:46:40Z"}'
    )
    early = watcher.poll()
    assert early is not None
    assert (early.source, early.firm) == ("aws-rebalance", False)
    metadata.answers["/latest/meta-data/spot/instance-action"] = json.dumps(
        {"action": "terminate", "time": "2030-03-17T17:48:10Z"}
    )
    assert watcher.poll() == Notice("aws-spot", 90.0)


def test_an_expired_aws_session_is_opened_anew(metadata: Metadata) -> None:
    watcher = AwsWatcher(metadata.environ)
    watcher.poll()
    metadata.token = "session-2"
    metadata.answers["/latest/meta-data/spot/instance-action"] = '{"action": "stop"}'
    assert watcher.poll() == Notice("aws-spot", 120.0)


def test_gcp_tells_by_one_word(metadata: Metadata) -> None:
    watcher = GcpWatcher(metadata.environ)
    metadata.answers["/computeMetadata/v1/instance/preempted"] = "FALSE"
    assert watcher.poll() is None
    metadata.answers["/computeMetadata/v1/instance/preempted"] = "TRUE"
    assert watcher.poll() == Notice("gcp", 30.0)


def test_azure_tells_of_us_and_of_others_and_takes_an_answer(metadata: Metadata) -> None:
    event = {
        "EventId": "E-1",
        "EventType": "Preempt",
        "Resources": ["another"],
        "NotBefore": "Sun, 17 Mar 2030 17:47:20 GMT",
    }
    metadata.answers["/metadata/instance/compute/name"] = "ours"
    metadata.answers["/metadata/scheduledevents"] = json.dumps({"Events": [event]})
    watcher = AzureWatcher(metadata.environ)
    assert watcher.poll() is None
    event["Resources"] = ["another", "ours"]
    metadata.answers["/metadata/scheduledevents"] = json.dumps({"Events": [event]})
    assert watcher.poll() == Notice("azure", 40.0)
    watcher.acknowledge()
    assert json.loads(metadata.posts[0]) == {"StartRequests": [{"EventId": "E-1"}]}


def test_a_silent_metadata_service_is_an_error_not_a_notice() -> None:
    watcher = GcpWatcher({"GCE_METADATA_HOST": "127.0.0.1:9"})
    with pytest.raises(MetadataFailed):
        watcher.poll()


def test_a_file_half_written_is_not_yet_a_notice(tmp_path: Path) -> None:
    file = tmp_path / "notice.json"
    watcher = FileWatcher(str(file))
    assert watcher.poll() is None
    file.write_text('{"seconds_')
    assert watcher.poll() is None
    file.write_text('{"seconds_left": 12}')
    assert watcher.poll() == Notice("local", 12.0)


def test_the_identity_of_an_aws_machine_is_its_signed_document(metadata: Metadata) -> None:
    metadata.answers["/latest/dynamic/instance-identity/document"] = '{"instanceId": "i-1"}'
    metadata.answers["/latest/dynamic/instance-identity/rsa2048"] = "MIAG"
    found = identity("aws", "https://fleet", "token", metadata.environ)
    assert found == {"kind": "aws", "document": '{"instanceId": "i-1"}', "signature": "MIAG"}
    assert identity("", "https://fleet", "token", {}) == {}
