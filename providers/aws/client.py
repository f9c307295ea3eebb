"""Signed connections to AWS. botocore's own retries are off: capacity comes as HTTP 500, and must fail over at once."""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.loaders import create_loader
from botocore.session import get_session

from ...config.aws import AwsAuth
from ...config.aws import AwsProvider as Section
from ..base import AuthFailed, InvalidConfig, Scope
from ..calls import Calls, Patience
from .errors import errors_told

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
MAX_CONNECTIONS = 32
ROLE_SESSION_NAME = "hostler"
_LOADER = create_loader()
MAX_PAGES = 10_000
"""No list of ours is this long: a cloud that hands out tokens for ever is broken, and the loop must go on."""


class Client:
    """boto3 clients by (service, region) and the one way to call them. Thread-safe."""

    def __init__(self, name: str, section: Section, calls: Calls) -> None:
        self.name = name
        self._endpoint_url = section.endpoint_url
        self._calls = calls
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}
        with errors_told("credentials", section.regions[0]):
            self._session = _session(section.auth, self._endpoint_url, section.regions[0])
            if self._endpoint_url is None:
                _refuse_unknown_regions(name, self._session, section.regions)

    def call(
        self, action: str, region: str, patience: Patience, *, creates: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        """The answer to `action` (``ec2:describe_instances``). Raises only ProviderError."""
        service, method = action.split(":")

        def once() -> dict[str, Any]:
            with errors_told(_said(service, method), region, creates=creates):
                answer: dict[str, Any] = getattr(self._client(service, region), method)(**parameters)
                return answer

        return self._calls.run(once, patience)

    def pages(
        self, action: str, region: str, patience: Patience, **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        """Every page of `action`; an error in any of them is raised, so that a list is whole or not at all."""
        seen: set[str] = set()
        asked = parameters
        for _ in range(MAX_PAGES):
            page = self.call(action, region, patience, **asked)
            yield page
            token = page.get("NextToken")
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
            asked = {**parameters, "NextToken": token}
        with errors_told(action, region):
            raise ValueError("the pages don't end")

    def read(self, action: str, region: str, take: Callable[[], T]) -> T:
        """What `take` makes of an answer; an answer of another shape than AWS's is told as the cloud's fault."""
        with errors_told(action, region):
            return take()

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, service: str, region: str) -> Any:
        # boto3 sessions are not thread-safe; the clients they make are.
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                self._clients[key] = self._session.client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    config=_config(),
                )
            return self._clients[key]


def _core() -> Any:
    """A session that shares what AWS's API looks like with the others: reading that takes longer than all the rest."""
    core = get_session()
    core.register_component("data_loader", _LOADER)
    return core


def _config() -> Config:
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=MAX_CONNECTIONS,
        user_agent_extra="hostler",
    )


def _said(service: str, method: str) -> str:
    """``ec2:run_instances`` as a policy writes it: ``ec2:RunInstances``."""
    return f"{service}:{''.join(word.capitalize() for word in method.split('_'))}"


def _session(auth: AwsAuth, endpoint_url: str | None, region: str) -> Any:
    core = _core()
    session: Any = boto3.Session(profile_name=auth.profile, botocore_session=core, **_keys(auth))
    core.get_scoped_config()  # a profile that isn't there is told now, not at the first launch
    if auth.role_arn is None:
        return session
    extra = {"RoleSessionName": ROLE_SESSION_NAME}
    if auth.external_id is not None:
        extra["ExternalId"] = auth.external_id

    def make_client(service: str, **options: Any) -> Any:
        given = {"region_name": region, "endpoint_url": endpoint_url, **options}
        return session.client(service, **given)

    source = session.get_credentials()
    if source is None:
        raise AuthFailed("no credentials to assume the role with", scope=Scope.PROVIDER, hint="set auth")
    fetcher = AssumeRoleCredentialFetcher(make_client, source, auth.role_arn, extra_args=extra)
    inner: Any = _core()
    inner._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return boto3.Session(botocore_session=inner)


def _keys(auth: AwsAuth) -> dict[str, Any]:
    if auth.access_key_env is None or auth.secret_key_env is None:
        return {}
    keys = {
        "aws_access_key_id": _variable(auth.access_key_env),
        "aws_secret_access_key": _variable(auth.secret_key_env),
    }
    if auth.session_token_env is not None:
        keys["aws_session_token"] = _variable(auth.session_token_env)
    return keys


def _variable(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise AuthFailed(
            f"the environment variable {name} is empty",
            scope=Scope.PROVIDER,
            hint=f"set {name} for the daemon",
        )
    return value


def _refuse_unknown_regions(name: str, session: Any, regions: tuple[str, ...]) -> None:
    known = {
        region
        for part in session.get_available_partitions()
        for region in session.get_available_regions("ec2", part)
    }
    for region in regions:
        if region not in known:
            near = difflib.get_close_matches(region, sorted(known), n=1)
            asked = f"did you mean {near[0]}? " if near else ""
            raise InvalidConfig(
                f"provider {name}: AWS has no region {region}",
                scope=Scope.REGION,
                hint=f"{asked}if the region is new: pip install --upgrade boto3",
            )
