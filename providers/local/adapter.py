"""The local provider: each instance is a process tree in a folder of its own, known by flock and /proc alone.

Nothing is kept in memory that a restart could lose: a daemon killed at any moment leaves a state from which the
same token gives the same single instance, and an end once set is carried out by the next daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...config.local import LocalOffer
from ...config.local import LocalProvider as Section
from ..base import (
    TAG_SERVER,
    Check,
    CloudInstance,
    CloudState,
    Gpu,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Market,
    Offer,
    ProviderContext,
    ProviderError,
    Scope,
    Unavailable,
)
from . import checks, processes, retention
from .ending import GRACE_SECONDS, ask_to_end, condemn, see_to_the_end, settle
from .folder import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    PRIVATE_SCRIPT,
    Doom,
    Folder,
    Record,
    lock_file,
    write_json,
    write_whole,
)
from .request import digest, tokens_of
from .start import inventory, start

ZONE = "local"
REF_PREFIX = "local-"
LOCK_NAME = ".lock"
ADDRESS = "127.0.0.1"


class LocalProvider:
    """Provider and Reclaimable. `after_step` is called with the name of each step of a launch that is done."""

    def __init__(
        self,
        name: str,
        section: Section,
        context: ProviderContext,
        *,
        clock: Callable[[], float] = time.time,
        grace_seconds: float = GRACE_SECONDS,
        after_step: Callable[[str], object] = str,
    ) -> None:
        self.name = name
        self._section = section
        self._server_id = context.server_id
        self._root = (section.root or Path(context.state_dir) / "local").absolute()
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._after_step = after_step
        self._closed = threading.Event()
        self._memory = threading.Lock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._watched: set[str] = set()

    def offers(self) -> Sequence[Offer]:
        """The section's catalogue; prices are made up there."""
        return tuple(self._offer(entry) for entry in self._section.catalogue())

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """One process tree for each instance asked for; InsufficientCapacity beyond `max_instances`."""
        tokens = tokens_of(request)
        made: list[CloudInstance] = []
        errors: list[ProviderError] = []
        with _errors_told(self.name, launching=True), self._locked():
            for token in tokens:
                try:
                    made.append(self._launch_one(token, request))
                except InsufficientCapacity as error:
                    errors.append(error)
                    break
        if errors and not made:
            raise errors[0]
        return LaunchResult(tuple(made), tuple(errors))

    def instances(self) -> Sequence[CloudInstance]:
        """All of this server's; kills that are due are done on the way, so that a restart forgets none."""
        with _errors_told(self.name):
            now = self._clock()
            self._reap()
            ours = list(self._ours())
            listed = [(folder, record) for folder, record in ours if retention.is_listed(folder, now)]
            if len(listed) < len(ours):
                self._forget_old(now)
            machine = processes.everything() if listed else {}
            return tuple(self._describe(folder, record, now, machine) for folder, record in listed)

    def terminate(self, ref: str) -> None:
        """SIGTERM to the whole tree now, SIGKILL after the grace; returns at once, as a cloud does."""
        with _errors_told(self.name):
            folder = self._find(ref)
            if folder.end() is not None:
                return
            with self._locked():
                doom = Doom(self._clock() + self._grace_seconds, reason="terminated", gentle=True)
                condemn(folder, doom)
            ask_to_end(folder)
            self._watch(folder)

    def reclaim(self, ref: str, notice_seconds: float) -> None:
        """Play the cloud: notice now (none for 0), SIGKILL of everything when the time is up."""
        with _errors_told(self.name):
            folder = self._find(ref)
            with self._locked():
                doom = Doom(self._clock() + max(0.0, notice_seconds), reason="reclaimed", gentle=False)
                condemn(folder, doom)
                if notice_seconds > 0:
                    write_json(folder.notice, {"seconds_left": notice_seconds})
            if notice_seconds <= 0:
                settle(folder, self._clock())
            self._watch(folder)

    def check(self) -> Sequence[Check]:
        """What a local instance needs of this machine."""
        return checks.look_at(self._root)

    def close(self) -> None:
        """Stop watching ends in the making; the next daemon's first listing goes on with them."""
        self._closed.set()

    def _offer(self, entry: LocalOffer) -> Offer:
        gpu = Gpu(entry.gpu[0].name, int(entry.gpu[0].count)) if entry.gpu else None
        price = entry.usd_per_hour if entry.usd_per_hour > 0 else None
        market = Market(entry.market)
        return Offer(self.name, ZONE, ZONE, entry.name, market, float(entry.cpus), entry.memory, gpu, price)

    def _launch_one(self, token: str, request: LaunchRequest) -> CloudInstance:
        folder = Folder(self._root / token)
        record = folder.record()
        if record is None:
            record = self._write_down(folder, request)
        elif (record.provider, record.digest) != (self.name, digest(request)):
            raise InvalidConfig(
                f"token {token} was used before with other parameters",
                hint="a retry must send the same offer, user-data, tags and disk",
            )
        child = start(folder)
        self._after_step("started")
        if child is not None:
            with self._memory:
                self._children[token] = child
        return self._describe(folder, record, self._clock(), None)

    def _write_down(self, folder: Folder, request: LaunchRequest) -> Record:
        """Everything the first process needs, then the record that makes the instance exist."""
        self._refuse_unknown_offer(request.offer)
        self._refuse_beyond_capacity()
        folder.path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        self._after_step("folder")
        write_whole(folder.user_data, request.user_data.encode(), PRIVATE_SCRIPT)
        self._after_step("user-data")
        free_bytes = shutil.disk_usage(self._root).free
        write_whole(folder.inventory, inventory(folder.token, request, free_bytes), PRIVATE_FILE)
        self._after_step("inventory")
        record = Record(
            token=folder.token,
            provider=self.name,
            tags=dict(request.tags),
            instance_type=request.offer.instance_type,
            market=request.offer.market.value,
            launched_at=self._clock(),
            digest=digest(request),
        )
        folder.write_record(record)
        self._after_step("record")
        return record

    def _refuse_unknown_offer(self, offer: Offer) -> None:
        known = {(entry.name, entry.market) for entry in self._section.catalogue()}
        if (offer.instance_type, offer.market.value) not in known:
            raise InvalidConfig(
                f"provider {self.name} has no {offer.instance_type} on market {offer.market.value}",
                scope=Scope.INSTANCE_TYPE,
                hint="offers of a local provider are those of its section in fleet.yaml",
            )

    def _refuse_beyond_capacity(self) -> None:
        live = sum(
            1 for folder, record in self._folders() if record.provider == self.name and folder.end() is None
        )
        if live >= self._section.max_instances:
            raise InsufficientCapacity(
                f"provider {self.name} has {live} instances of max_instances {self._section.max_instances}",
                scope=Scope.PROVIDER,
            )

    def _describe(
        self, folder: Folder, record: Record, now: float, machine: dict[int, processes.Process] | None
    ) -> CloudInstance:
        state = settle(folder, now, machine)
        if state is not CloudState.TERMINATED and folder.doom() is not None:
            self._watch(folder)
        end = folder.end()
        return CloudInstance(
            provider=self.name,
            ref=REF_PREFIX + record.token,
            state=state,
            tags=record.tags,
            instance_type=record.instance_type,
            region=ZONE,
            zone=ZONE,
            market=record.market,
            launched_at=record.launched_at,
            address=ADDRESS,
            detail=end.reason if end is not None else "",
        )

    def _folders(self) -> Iterator[tuple[Folder, Record]]:
        names = sorted(os.listdir(self._root)) if self._root.is_dir() else []  # noqa: PTH208  # names, not paths
        for name in names:
            folder = Folder(self._root / name)
            record = None if name.startswith(".") else folder.record()
            if record is not None:
                yield folder, record

    def _ours(self) -> Iterator[tuple[Folder, Record]]:
        for folder, record in self._folders():
            if self._is_ours(record):
                yield folder, record

    def _is_ours(self, record: Record) -> bool:
        return record.provider == self.name and record.tags.get(TAG_SERVER) == self._server_id

    def _find(self, ref: str) -> Folder:
        token = ref.removeprefix(REF_PREFIX)
        if ref.startswith(REF_PREFIX) and "/" not in token and not token.startswith("."):
            folder = Folder(self._root / token)
            record = folder.record()
            if record is not None and self._is_ours(record):
                return folder
        raise InstanceNotFound(f"provider {self.name} has no instance {ref} of this server")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One launch or change of mind at a time, among all threads and daemons that share this root."""
        self._root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with lock_file(self._root / LOCK_NAME):
            yield

    def _forget_old(self, now: float) -> None:
        with self._locked():
            retention.forget_old(self._root, [folder for folder, _ in self._ours()], now)

    def _watch(self, folder: Folder) -> None:
        """Carry the end out in the background; a listing does the same, later, if this daemon dies."""
        with self._memory:
            if folder.token in self._watched or self._closed.is_set():
                return
            self._watched.add(folder.token)
        threading.Thread(
            target=self._carry_out, args=(folder,), name=f"end-of-{folder.token}", daemon=True
        ).start()

    def _carry_out(self, folder: Folder) -> None:
        try:
            see_to_the_end(folder, self._clock, self._wait_and_reap)
        except (OSError, ValueError):
            return  # the next listing meets the same trouble and tells it
        finally:
            with self._memory:
                self._watched.discard(folder.token)

    def _wait_and_reap(self, seconds: float) -> bool:
        self._reap()
        return self._closed.wait(seconds)

    def _reap(self) -> None:
        """Take the exit status of children that ended, or they stay as zombies for as long as the daemon runs."""
        with self._memory:
            ended = [token for token, child in self._children.items() if child.poll() is not None]
            for token in ended:
                del self._children[token]


@contextmanager
def _errors_told(name: str, *, launching: bool = False) -> Iterator[None]:
    """Turn what the file system says into the port's errors."""
    try:
        yield
    except PermissionError as error:
        raise InvalidConfig(
            f"provider {name}: {error}", scope=Scope.PROVIDER, hint="give the daemon's user that folder"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"provider {name}: {error}", scope=Scope.PROVIDER, maybe_created=launching
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        raise Unavailable(
            f"provider {name}: a file of an instance can't be read: {error}",
            scope=Scope.PROVIDER,
            hint="remove that instance's folder after ending its processes",
            maybe_created=launching,
        ) from error
