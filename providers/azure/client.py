"""Connections to Azure and the one way to call them. The SDK's own retries and polling are off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.credentials import TokenCredential
from azure.core.pipeline.policies import HeadersPolicy, SansIOHTTPPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.network import NetworkManagementClient

from ...config.azure import AzureProvider as Section
from ..base import ProviderError
from ..calls import Calls, Patience
from .credentials import credential_of, verify_of
from .errors import errors_told

T = TypeVar("T")
Json = dict[str, Any]

PUBLIC_ENDPOINT = "https://management.azure.com"
PRICES_ENDPOINT = "https://prices.azure.com"
USER_AGENT = "hostler"
HTTPS_PORT = 443
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
MAX_PAGES = 10_000
"""No list of ours is this long: a cloud that hands out links for ever is broken, and the loop must go on."""


class Client:
    """The SDK's clients for one subscription, made when first used. Thread-safe."""

    def __init__(
        self, name: str, section: Section, calls: Calls, credential: TokenCredential | None = None
    ) -> None:
        self.name = name
        self.group = section.resource_group
        self.subscription = section.subscription
        self.endpoint = (section.endpoint_url or PUBLIC_ENDPOINT).rstrip("/")
        self._prices_endpoint = (section.prices_url or PRICES_ENDPOINT).rstrip("/")
        self._calls = calls
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        with errors_told("sign-in", section.regions[0]):
            self._verify = verify_of(section)
            self._credential = credential or credential_of(section)

    @property
    def compute(self) -> Any:
        return self._client("compute", lambda: ComputeManagementClient(**self._options()))

    @property
    def network(self) -> Any:
        return self._client("network", lambda: NetworkManagementClient(**self._options()))

    def call(
        self,
        action: str,
        region: str,
        patience: Patience,
        ask: Callable[[], T],
        *,
        creates: bool = False,
    ) -> T:
        """What `ask` gives. `action` is the permission it needs. Raises only ProviderError."""
        may_have_created = False

        def once() -> T:
            nonlocal may_have_created
            try:
                with errors_told(action, region, creates=creates):
                    return ask()
            except ProviderError as error:
                # A clear no to the second attempt says nothing of the first, whose reply was lost.
                may_have_created = error.maybe_created = error.maybe_created or may_have_created
                raise

        return self._calls.run(once, patience)

    def pages(self, action: str, region: str, patience: Patience, ask: Callable[..., Any]) -> list[Json]:
        """Every item of every page; an error in any of them is raised, so that a list is whole or not at all.

        `ask` is given the keyword arguments of one listing and passes them on.
        """

        def read() -> list[Json]:
            pages = ask(raw_response_hook=_refuse_what_is_no_page).by_page()
            found: list[Json] = []
            seen: set[str] = set()
            for _ in range(MAX_PAGES):
                page = next(pages, None)
                if page is None:
                    return found
                found += [plain(item) for item in page]
                link = pages.continuation_token
                if link in seen:
                    break
                if link:
                    seen.add(link)
            raise ValueError("the pages don't end")

        return self.call(action, region, patience, read)

    def get(self, url: str, **parameters: str) -> tuple[Json, Any]:
        """(body, response) of an authorised GET; `url` is a path, or an address that Azure gave. To be `call`ed."""
        return _get(self._client("arm", self._arm), self.endpoint, url, parameters)

    def get_price_page(self, url: str, **parameters: str) -> Json:
        """One page of the price list, which is public. To be `call`ed."""
        return _get(self._client("prices", self._prices), self._prices_endpoint, url, parameters)[0]

    def close(self) -> None:
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made.clear()
            close = getattr(self._credential, "close", None)
        if close is not None:
            close()

    def _client(self, kind: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = make()
            return self._made[kind]

    def _options(self) -> Json:
        return {
            "credential": self._credential,
            "subscription_id": self.subscription,
            "base_url": self.endpoint,
            "credential_scopes": [f"{self.endpoint}/.default"],
            "retry_total": 0,
            "user_agent": USER_AGENT,
            # It writes a dozen lines for each call into the daemon's log.
            "http_logging_policy": SansIOHTTPPolicy(),
            **self._connection(),
        }

    def _connection(self) -> Json:
        return {
            "connection_verify": self._verify,
            "connection_timeout": CONNECT_TIMEOUT_SECONDS,
            "read_timeout": READ_TIMEOUT_SECONDS,
        }

    def _arm(self) -> Any:
        policies = [
            HeadersPolicy(),
            UserAgentPolicy(USER_AGENT),
            ARMChallengeAuthenticationPolicy(self._credential, f"{self.endpoint}/.default"),
        ]
        transport = RequestsTransport(**self._connection())
        return PipelineClient(self.endpoint, policies=policies, transport=transport)

    def _prices(self) -> Any:
        policies = [HeadersPolicy(), UserAgentPolicy(USER_AGENT)]
        transport = RequestsTransport(**self._connection())
        return PipelineClient(self._prices_endpoint, policies=policies, transport=transport)


def plain(item: Any) -> Json:
    """A model of the SDK as the JSON that Azure sent."""
    found: Json = item.as_dict()
    return found


def _get(client: Any, endpoint: str, url: str, parameters: dict[str, str]) -> tuple[Json, Any]:
    address = url if "://" in url else f"{endpoint}{url}"
    if _origin(address) != _origin(endpoint):
        # Our token goes with the call, and must not go to wherever an answer points.
        raise ValueError(f"{address} is outside {endpoint}")
    response = client.send_request(HttpRequest("GET", address, params=parameters))
    response.raise_for_status()
    body = response.json()
    if not isinstance(body, dict):
        raise ValueError("not an object")
    return body, response


def _origin(address: str) -> tuple[str, str | None, int]:
    """Scheme, host and port; Azure writes the port in some of its links and not in others."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or HTTPS_PORT


def _refuse_what_is_no_page(response: Any) -> None:
    """The SDK reads a body without `value` as an empty page; a list must not end that way."""
    answer = response.http_response
    if answer.status_code == 200 and not isinstance(answer.json().get("value"), list):
        raise ValueError("a page without items")
