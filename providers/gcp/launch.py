"""instances.insert: one call an instance with its name, its request id, our labels and everything else that is ours."""

from __future__ import annotations

import math
from typing import Any

from google.cloud import compute_v1

from ...config.gcp import GcpProvider as Section
from ..base import (
    CloudInstance,
    CloudState,
    InvalidConfig,
    LaunchRequest,
    LaunchResult,
    Market,
    ProviderError,
    Scope,
    Unavailable,
)
from ..calls import IN_TICK
from .accelerators import series, split
from .client import Client
from .credentials import SCOPES
from .endings import Endings
from .errors import ALREADY_EXISTS, of_operation, reason_of
from .images import Image, Images
from .labels import to_labels
from .listing import Listing
from .names import Ref, insert_id, instance_names
from .operations import DONE, Operations

GIB = 2**30
DEFAULT_DISK_GIB = 50
"""Without a `disk` in the pool: room for an environment with CUDA libraries and a modest data set."""
MIN_DISK_GIB = 10
MAX_USER_DATA_BYTES = 256 * 1024
"""Compute Engine's own limit for one metadata value."""
WAIT_SECONDS = 90.0
"""A stock-out is told within seconds; an operation that takes longer than this goes on without us."""
DEFAULT_DISK_TYPE, HYPERDISK = "pd-balanced", "hyperdisk-balanced"
HYPERDISK_SERIES = frozenset({"a4", "a4x", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "n4a", "n4d", "x4"})
HYPERDISK_TYPES = ("a3-ultragpu-",)
CLOUD_INIT_STARTS = ("#cloud-config", "Content-Type: multipart/", "MIME-Version:", "#include")
"""What only cloud-init reads; a script is run by Google's guest agent, which every image has."""
ACTION = "instances.insert"


class Launcher:
    """Turns launch requests into instances."""

    def __init__(
        self,
        client: Client,
        section: Section,
        server_id: str,
        images: Images,
        listing: Listing,
        endings: Endings,
        operations: Operations,
    ) -> None:
        self._client = client
        self._section = section
        self._server_id = server_id
        self._images = images
        self._listing = listing
        self._endings = endings
        self._operations = operations

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """See `Provider.launch`. All creations are under way before the first is waited for."""
        self._refuse_what_cannot_work(request)
        image = self._images.image()
        refs = [Ref(request.offer.zone, name) for name in instance_names(request)]
        started = [self._start(request, ref, image) for ref in refs]
        outcomes = [self._outcome(request, ref, one) for ref, one in zip(refs, started, strict=True)]
        made = tuple(one for one in outcomes if isinstance(one, CloudInstance))
        errors = tuple(one for one in outcomes if isinstance(one, ProviderError))
        if not made:
            # The one that leaves the intent open counts most.
            raise max(errors, key=lambda error: error.maybe_created)
        return LaunchResult(made, errors)

    def resource(self, request: LaunchRequest, ref: Ref, image: Image) -> Any:
        """The Instance to create: the same for the same request and section."""
        machine_type, accelerator, count = split(request.offer.instance_type)
        found = compute_v1.Instance(
            name=ref.name,
            machine_type=f"zones/{ref.zone}/machineTypes/{machine_type}",
            labels=to_labels(request.tags),
            disks=[self._boot_disk(request, ref, image)],
            network_interfaces=[self._network(request.offer.region)],
            metadata=_metadata(request.user_data),
            scheduling=_scheduling(request),
        )
        if count:
            kind = f"zones/{ref.zone}/acceleratorTypes/{accelerator}"
            config = compute_v1.AcceleratorConfig(accelerator_type=kind, accelerator_count=count)
            found.guest_accelerators = [config]
        if self._section.service_account is not None:
            account = compute_v1.ServiceAccount(email=self._section.service_account, scopes=list(SCOPES))
            found.service_accounts = [account]
        if self._section.network_tags:
            found.tags = compute_v1.Tags(items=list(self._section.network_tags))
        if image.is_uefi:
            found.shielded_instance_config = compute_v1.ShieldedInstanceConfig(
                enable_vtpm=True,
                enable_integrity_monitoring=True,
                enable_secure_boot=self._section.secure_boot,
            )
        return found

    def _start(self, request: LaunchRequest, ref: Ref, image: Image) -> Any:
        """The operation, or the error in its place."""
        try:
            return self._client.call(
                ACTION,
                ref.zone,
                IN_TICK,
                creates=True,
                zone=ref.zone,
                request_id=insert_id(self._server_id, ref),
                instance_resource=self.resource(request, ref, image),
            )
        except ProviderError as error:
            return error

    def _outcome(self, request: LaunchRequest, ref: Ref, started: Any) -> CloudInstance | ProviderError:
        try:
            if isinstance(started, ProviderError):
                if reason_of(started) not in ALREADY_EXISTS:
                    return started
                return self._adopt(request, ref, started)
            return self._finish(request, ref, started)
        except ProviderError as error:
            return error

    def _finish(self, request: LaunchRequest, ref: Ref, operation: Any) -> CloudInstance:
        try:
            operation = self._operations.wait(ref.zone, operation, WAIT_SECONDS)
        except ProviderError as error:
            # The creation was accepted: whatever keeps us from seeing its end, it may be there.
            error.maybe_created = True
            raise
        failure = of_operation(operation, ACTION, ref.zone) if operation.status == DONE else None
        if failure is None:
            return self._made(request, ref)
        if operation.error.errors and operation.error.errors[0].code in ALREADY_EXISTS:
            return self._adopt(request, ref, failure)
        raise failure

    def _made(self, request: LaunchRequest, ref: Ref) -> CloudInstance:
        found = self._look(ref) or self._ended(request, ref)
        if found is None:
            detail = f"{ACTION} in {ref.zone}: {ref.name} is not visible yet"
            raise Unavailable(detail, scope=Scope.OFFER, maybe_created=True)
        return found

    def _adopt(self, request: LaunchRequest, ref: Ref, error: ProviderError) -> CloudInstance:
        """The name is taken: by what this token made before, or by somebody else's instance."""
        found = self._look(ref)
        if found is None:
            raise Unavailable(error.detail, scope=Scope.OFFER, maybe_created=True) from error
        if (found.server, found.intent) != (self._server_id, request.token):
            hint = f"rename or delete the instance {ref.name} in {ref.zone}: it is not this server's"
            raise InvalidConfig(error.detail, scope=Scope.OFFER, hint=hint) from error
        return found

    def _look(self, ref: Ref) -> CloudInstance | None:
        try:
            return self._listing.describe(self._listing.get(ref))
        except ProviderError as error:
            if error.code == "NOT_FOUND":
                return None
            error.maybe_created = True
            raise

    def _ended(self, request: LaunchRequest, ref: Ref) -> CloudInstance | None:
        """What this token made, if it has been deleted or taken away since."""
        try:
            why = self._endings.why(ref)
        except ProviderError as error:
            error.maybe_created = True
            raise
        if why is None:
            return None
        return CloudInstance(
            provider=request.offer.provider,
            ref=str(ref),
            state=CloudState.TERMINATED,
            tags=dict(request.tags),
            instance_type=request.offer.instance_type,
            region=request.offer.region,
            zone=ref.zone,
            market=request.offer.market.value,
            detail=why,
        )

    def _refuse_what_cannot_work(self, request: LaunchRequest) -> None:
        if request.offer.region not in self._section.regions:
            raise InvalidConfig(
                f"region {request.offer.region} is not one of this provider's",
                scope=Scope.REGION,
                hint="add it to regions",
            )
        if request.count < 1:
            raise InvalidConfig(f"count {request.count}: a launch asks for at least one instance")
        size_bytes = len(request.user_data.encode())
        if size_bytes > MAX_USER_DATA_BYTES:
            raise InvalidConfig(
                f"user-data has {size_bytes} bytes, Compute Engine takes {MAX_USER_DATA_BYTES}",
                scope=Scope.PROVIDER,
            )

    def _boot_disk(self, request: LaunchRequest, ref: Ref, image: Image) -> Any:
        wanted_gib = DEFAULT_DISK_GIB if request.disk_bytes is None else math.ceil(request.disk_bytes / GIB)
        kind = self._section.disk_type or _disk_type(request.offer.instance_type)
        return compute_v1.AttachedDisk(
            boot=True,
            auto_delete=True,
            initialize_params=compute_v1.AttachedDiskInitializeParams(
                source_image=image.source,
                disk_size_gb=max(MIN_DISK_GIB, wanted_gib, image.disk_gib),
                disk_type=f"zones/{ref.zone}/diskTypes/{kind}",
                labels=to_labels(request.tags),
            ),
        )

    def _network(self, region: str) -> Any:
        found = compute_v1.NetworkInterface()
        subnetwork = self._section.subnetwork_in(region)
        if subnetwork is not None:
            found.subnetwork = (
                subnetwork if "/" in subnetwork else f"regions/{region}/subnetworks/{subnetwork}"
            )
        else:
            network = self._section.network or "default"
            found.network = network if "/" in network else f"global/networks/{network}"
        if self._section.external_ip:
            found.access_configs = [compute_v1.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")]
        return found


def _metadata(user_data: str) -> Any:
    key = "user-data" if user_data.lstrip().startswith(CLOUD_INIT_STARTS) else "startup-script"
    return compute_v1.Metadata(items=[compute_v1.Items(key=key, value=user_data)])


def _scheduling(request: LaunchRequest) -> Any:
    spot = request.offer.market is Market.SPOT
    found = compute_v1.Scheduling(
        automatic_restart=False,
        # A machine with GPUs can't be moved while it runs, and a spot one never is.
        on_host_maintenance="TERMINATE" if spot or request.offer.gpu is not None else "MIGRATE",
        provisioning_model="SPOT" if spot else "STANDARD",
    )
    if spot:
        # Stopped instead, it would cost its disk and never come back by itself.
        found.instance_termination_action = "DELETE"
    return found


def _disk_type(instance_type: str) -> str:
    hyper = series(instance_type) in HYPERDISK_SERIES or instance_type.startswith(HYPERDISK_TYPES)
    return HYPERDISK if hyper else DEFAULT_DISK_TYPE
