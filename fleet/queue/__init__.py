"""Tasks waiting and leased: each protocol is one small file of functions on a connection, with `now` handed in.

None of them reads a clock, draws a random number or waits; each is meant to run inside one write transaction.
Only `Dispatcher` knows asyncio: it wakes agents that wait for work. Runs recorded from outside the fleet (their
queue is NULL) are never touched here.
"""

from .arrivals import Arrivals, announce, arrivals, newest
from .claim import Claim, claim
from .demand import came_due, demand
from .dispatcher import Dispatcher, Waiter, Wake
from .errors import QueueError, Stale, UnknownQueue, UnknownTask, WrongState
from .expire import expire, requeue_of_instance
from .finish import finish
from .heartbeat import Beat, heartbeat
from .leases import Ended
from .longpoll import next_lease
from .needs import Free
from .requeue import requeue
from .started import started
from .stop import stop
from .submit import submit

__all__ = [
    "Arrivals",
    "Beat",
    "Claim",
    "Dispatcher",
    "Ended",
    "Free",
    "QueueError",
    "Stale",
    "UnknownQueue",
    "UnknownTask",
    "Waiter",
    "Wake",
    "WrongState",
    "announce",
    "arrivals",
    "came_due",
    "claim",
    "demand",
    "expire",
    "finish",
    "heartbeat",
    "newest",
    "next_lease",
    "requeue",
    "requeue_of_instance",
    "started",
    "stop",
    "submit",
]
