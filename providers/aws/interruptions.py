"""What EC2 says of interruptions through EventBridge: read from the SQS queue that a rule there fills."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from ..base import Forewarning, InvalidConfig, Scope
from ..calls import IN_TICK
from .client import Client

INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
INTERRUPTION_SECONDS = 120.0
REBALANCE_SECONDS = 600.0
"""A recommendation names no time: it is an early warning, often with nothing after it."""
BATCH = 10
BATCHES_MAX = 20
"""What one look takes at most; the rest is there at the next."""
VISIBILITY_SECONDS = 60
"""Messages that were taken but not settled, because the daemon died, come back after so long."""

_log = logging.getLogger(__name__)


class Interruptions:
    """The queue at `url`, which is this server's alone. `clock` is epoch seconds. Empty without a queue."""

    def __init__(
        self, client: Client, url: str | None, regions: Sequence[str], clock: Callable[[], float]
    ) -> None:
        self._client = client
        self._url = url
        self._region = _region_of(url, regions) if url is not None else regions[0]
        self._clock = clock

    def read(self) -> tuple[Forewarning, ...]:
        """What is in the queue. It stays there, unseen for a minute, until it is settled."""
        if self._url is None:
            return ()
        found: list[Forewarning] = []
        for _ in range(BATCHES_MAX):
            messages = self._take()
            found += [self._forewarning(one) for one in messages]
            if len(messages) < BATCH:
                break
        return tuple(found)

    def settle(self, forewarnings: Sequence[Forewarning]) -> None:
        """Delete the messages of these: they were taken in."""
        receipts = [one.receipt for one in forewarnings if one.receipt]
        for start in range(0, len(receipts), BATCH):
            entries = [
                {"Id": str(index), "ReceiptHandle": receipt}
                for index, receipt in enumerate(receipts[start : start + BATCH])
            ]
            self._client.call(
                "sqs:delete_message_batch", self._region, IN_TICK, QueueUrl=self._url, Entries=entries
            )

    def _take(self) -> list[dict[str, Any]]:
        answer = self._client.call(
            "sqs:receive_message",
            self._region,
            IN_TICK,
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH,
            VisibilityTimeout=VISIBILITY_SECONDS,
            WaitTimeSeconds=0,
        )
        return self._client.read("sqs:ReceiveMessage", self._region, lambda: list(answer.get("Messages", ())))

    def _forewarning(self, message: dict[str, Any]) -> Forewarning:
        """A message that is of no use gives one without a ref: it is settled all the same, or it came for ever."""
        receipt = str(message.get("ReceiptHandle", ""))
        try:
            event = json.loads(message["Body"])
            kind, ref = event["detail-type"], f"{event['region']}/{event['detail']['instance-id']}"
            said_at = datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the interruption queue holds a message that is no event of EC2: %r", error)
            return Forewarning("", 0.0, "", receipt)
        if kind == INTERRUPTION:
            return Forewarning(ref, self._left(said_at, INTERRUPTION_SECONDS), "aws-spot", receipt)
        if kind == REBALANCE:
            return Forewarning(ref, self._left(said_at, REBALANCE_SECONDS), "aws-rebalance", receipt)
        return Forewarning("", 0.0, "", receipt)

    def _left(self, said_at: float, usual: float) -> float:
        return min(usual, max(0.0, said_at + usual - self._clock()))


def _region_of(url: str, regions: Sequence[str]) -> str:
    """``us-east-1`` for https://sqs.us-east-1.amazonaws.com/123456789012/interruptions."""
    words = (urlsplit(url).hostname or "").split(".")
    if words[0] == "sqs" and len(words) > 2:
        return words[1]
    if not url.startswith(("http://", "https://")):
        raise InvalidConfig(
            f"interruption_queue {url!r} is not a queue's URL",
            scope=Scope.PROVIDER,
            hint="write the URL, not the ARN",
        )
    return regions[0]
