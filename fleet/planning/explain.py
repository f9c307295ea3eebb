"""The stable reason codes of decisions, each with what it means: the vocabulary of `hostler explain`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CODES: Mapping[str, str] = MappingProxyType(
    {
        # tasks
        "ASSIGNED": "a ready instance has room for it and takes it at its next poll",
        "WAITING_BOOT": "an instance that will have room for it is starting",
        "LAUNCHING": "an instance is being bought for it in this tick",
        "NO_MATCHING_OFFER": "no offer of its pools can ever hold it",
        "NO_SPOT_CAPACITY": "every spot offer that fits has no capacity just now",
        "NO_CAPACITY": "every offer that fits has no capacity just now",
        "NO_OFFERS_YET": "the providers of its pools have not told yet what they sell",
        "PRICE_UNKNOWN": "offers fit, but none with a known price; nothing is bought unpriced",
        "LIMIT": "a cap of the fleet, pool or provider is reached",
        "BLOCKED": "offers that fit are held back after an error of their cloud",
        "POOL_PROTECTED": "its pool launches nothing until a person re-arms it",
        "FROZEN": "no launches at all for now",
        "WAITING_FALLBACK": "spot is asked first; on demand is allowed after the pool's fallback delay",
        "WAITING_PROBE": "an offer is being tried with one launch; more follow when it succeeds",
        # offers, as reasons for rejection
        "NOT_IN_POOL": "the pool's providers or filters leave it out",
        "TOO_SMALL": "the task doesn't fit on it",
        "MARKET": "the task, its queue or its pool asks for the other market",
        "QUOTA": "the account's quota is used up",
        "THROTTLED": "the cloud asked us to slow down",
        "UNAVAILABLE": "the cloud's API does not answer",
        "INVALID_CONFIG": "the cloud refuses the request as it is",
        "AUTH": "the cloud refuses our credentials",
        "PROVIDER_ERROR": "the cloud answered with an error we have no name for",
        "LIMIT_INSTANCES": "limits.instances is reached",
        "LIMIT_GPUS": "limits.gpus would be passed",
        "LIMIT_USD_PER_HOUR": "limits.usd_per_hour would be passed",
        "LIMIT_PROVIDER": "the provider's max_instances is reached",
        "LIMIT_POOL": "the pool's largest number of instances is reached",
        "LIMIT_FALLBACK_SHARE": "the pool's share of on-demand instances is used up",
        # instances
        "BUSY": "it runs tasks",
        "BOOTING": "it is starting",
        "IDLE": "nothing to do for longer than the pool's idle_timeout",
        "IDLE_WAIT": "nothing to do, kept until the pool's idle_timeout",
        "KEPT_WARM": "nothing to do, kept because of the pool's smallest number or a warm window",
        "RESERVED": "kept for queued tasks that fit on it",
        "MAX_AGE": "older than the pool's max_age",
        "POOL_GONE": "its pool is no longer in the configuration",
        "DRAINING": "takes nothing new, waits for its tasks to end",
        "DRAINED": "drained and without a task",
        "TERMINATING": "its end is asked for; waiting for the cloud to confirm",
        "LOST": "its cloud no longer lists it",
        # pools
        "WARM": "bought to reach the pool's smallest number or a warm window",
    }
)
