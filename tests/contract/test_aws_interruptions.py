"""EC2's interruption warnings as EventBridge puts them into an SQS queue."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from contract.aws_harness import REGION, AwsHarness
from hostler.providers.aws.adapter import AwsProvider
from hostler.providers.base import AuthFailed, Forewarned, ProviderContext

WARNING = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
NOW = float(int(time.time()))


class Queue:
    """An SQS queue that a rule on the default bus fills, as the provider's document has people set it up."""

    def __init__(self, endpoint: str) -> None:
        given: dict[str, Any] = {"region_name": REGION, "endpoint_url": endpoint}
        self.sqs: Any = boto3.client("sqs", **given)
        self.events: Any = boto3.client("events", **given)
        name = f"interruptions-{uuid.uuid4().hex[:8]}"
        self.url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        # moto names itself in it; behind the fault layer it is reached at the endpoint.
        self.arn = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])[
            "Attributes"
        ]["QueueArn"]
        pattern = {"source": ["aws.ec2"], "detail-type": [WARNING, REBALANCE]}
        self.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        self.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": self.arn}])

    def happens(self, instance_id: str, kind: str = WARNING, at: float = NOW) -> None:
        """EC2 tells the bus."""
        entry = {
            "Source": "aws.ec2",
            "DetailType": kind,
            "Detail": json.dumps({"instance-id": instance_id, "instance-action": "terminate"}),
            "Time": datetime.fromtimestamp(at, UTC),
        }
        assert self.events.put_events(Entries=[entry])["FailedEntryCount"] == 0

    def put(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def left(self) -> int:
        asked = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=asked)["Attributes"]
        return sum(int(value) for value in told.values())


@pytest.fixture
def queue(aws: AwsHarness) -> Queue:
    return Queue(aws.server.url)


@pytest.fixture
def listen(aws: AwsHarness, queue: Queue) -> Callable[..., AwsProvider]:
    def make(**changes: Any) -> AwsProvider:
        section = aws.section(**{"interruption_queue": queue.url, **changes})
        context = ProviderContext(aws.server_id, "/nonexistent")
        return AwsProvider("aws", section, context, sleep=aws.waits.append, clock=lambda: NOW + 20)

    return make


def test_a_warning_comes_with_the_time_that_is_left(queue: Queue, listen: Callable[..., AwsProvider]) -> None:
    queue.happens("i-0a1b")
    queue.happens("i-0c2d", REBALANCE)
    provider = listen()
    assert isinstance(provider, Forewarned)
    told = {one.ref: (one.source, one.seconds_left) for one in provider.notices()}
    assert told == {
        f"{REGION}/i-0a1b": ("aws-spot", 100.0),
        f"{REGION}/i-0c2d": ("aws-rebalance", 580.0),
    }


def test_what_is_not_settled_stays_in_the_queue(queue: Queue, listen: Callable[..., AwsProvider]) -> None:
    for number in range(23):
        queue.happens(f"i-{number:04x}")
    provider = listen()
    told = provider.notices()
    assert len(told) == 23
    assert queue.left() == 23
    provider.settle(told)
    assert queue.left() == 0


def test_a_message_that_is_no_event_concerns_nobody_and_can_be_settled(
    queue: Queue, listen: Callable[..., AwsProvider]
) -> None:
    rubbish = ["hello", "[]", '{"detail-type": 1}', '{"detail": null, "region": "x", "detail-type": "y"}']
    for body in rubbish:
        queue.put(body)
    queue.put(
        json.dumps(
            {
                "detail-type": "EC2 Instance State-change Notification",
                "region": REGION,
                "time": "2026-01-01T00:00:00Z",
                "detail": {"instance-id": "i-1"},
            }
        )
    )
    provider = listen()
    told = provider.notices()
    assert [one.ref for one in told] == [""] * 5
    provider.settle(told)
    assert queue.left() == 0


def test_without_a_queue_nobody_is_asked(aws: AwsHarness, listen: Callable[..., AwsProvider]) -> None:
    before = len(aws.cloud.calls)
    assert listen(interruption_queue=None).notices() == ()
    assert len(aws.cloud.calls) == before


def test_a_missing_permission_is_told_with_the_action_that_lacks_it(
    aws: AwsHarness, listen: Callable[..., AwsProvider]
) -> None:
    body = b'{"__type": "com.amazonaws.sqs#AccessDeniedException", "message": "no"}'
    aws.cloud.answer("ReceiveMessage", body, status=403, times=3)
    with pytest.raises(AuthFailed, match="sqs:ReceiveMessage"):
        listen().notices()
