"""Signed connections to Google Cloud. The library's own retries and futures are off: they have no bound of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from google.api_core import exceptions as answered
from google.auth.transport.requests import AuthorizedSession
from google.cloud import compute_v1

from ...config.gcp import GcpProvider as Section
from ..base import ProviderError
from ..calls import Calls, Patience
from .credentials import Tokens, found_here, from_file
from .errors import errors_told

T = TypeVar("T")

CALL_TIMEOUT_SECONDS = 30.0
PAGE_SIZE = 500
MAX_PAGES = 10_000
"""No list of ours is this long: a cloud that hands out tokens for ever is broken, and the loop must go on."""
SERVICES: dict[str, Callable[..., Any]] = {
    "acceleratorTypes": compute_v1.AcceleratorTypesClient,
    "images": compute_v1.ImagesClient,
    "instances": compute_v1.InstancesClient,
    "machineTypes": compute_v1.MachineTypesClient,
    "networks": compute_v1.NetworksClient,
    "projects": compute_v1.ProjectsClient,
    "regions": compute_v1.RegionsClient,
    "subnetworks": compute_v1.SubnetworksClient,
    "zoneOperations": compute_v1.ZoneOperationsClient,
    "zones": compute_v1.ZonesClient,
}
METHODS = {
    "aggregatedList": "aggregated_list",
    "delete": "delete_unary",
    "get": "get",
    "getFromFamily": "get_from_family",
    "insert": "insert_unary",
    "list": "list",
}


class Client:
    """Compute Engine's services, the one way to call them, and a plain session for the APIs beside. Thread-safe."""

    def __init__(self, section: Section, calls: Calls) -> None:
        self.project = section.project
        self._endpoint_url = section.endpoint_url
        self._calls = calls
        self._lock = threading.Lock()
        self._services: dict[str, Any] = {}
        self._session: Any = None
        file = section.auth.credentials_file
        # A file that isn't there is told now, not at the first launch; anything else may ask a metadata service.
        self._credentials: Tokens | None = from_file(file) if file is not None else None

    def call(
        self, action: str, place: str, patience: Patience, *, creates: bool = False, **fields: Any
    ) -> Any:
        """The answer to `action` (``instances.get``) about `place`, a zone or region. Raises only ProviderError."""
        service, method = action.split(".")
        request = {"project": self.project, **fields}
        unsure = False

        def once() -> Any:
            nonlocal unsure
            try:
                with errors_told(action, place, creates=creates):
                    ask = getattr(self._service(service), METHODS[method])
                    return ask(request=request, retry=None, timeout=CALL_TIMEOUT_SECONDS)
            except ProviderError as error:
                # A plain no to the second attempt says nothing of the first, whose answer was lost.
                unsure = error.maybe_created = unsure or error.maybe_created
                raise

        return self._calls.run(once, patience)

    def pages(self, action: str, place: str, patience: Patience, **fields: Any) -> Iterator[Any]:
        """Every page of `action`; an error in any of them is raised, so that a list is whole or not at all."""
        seen: set[str] = set()
        token = ""
        for _ in range(MAX_PAGES):
            asked = {"max_results": PAGE_SIZE, **fields, **({"page_token": token} if token else {})}
            pager = self.call(action, place, patience, **asked)
            page = self.read(action, place, partial(_first_page, pager))
            yield page
            token = page.next_page_token
            if not token:
                return
            if token in seen:
                break
            seen.add(token)
        with errors_told(action, place):
            raise ValueError("the pages don't end")

    def ask(
        self,
        url: str,
        patience: Patience,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The JSON that an API beside Compute Engine answers to a GET, or to a POST of `body`."""
        action = url.partition("//")[2].partition("/")[0]
        target = url if self._endpoint_url is None else f"{self._endpoint_url}/{url.split('/', 3)[3]}"

        def once() -> dict[str, Any]:
            with errors_told(action, self.project):
                method = "GET" if body is None else "POST"
                answer = self._plain_session().request(
                    method, target, params=query, json=body, timeout=CALL_TIMEOUT_SECONDS
                )
                if answer.status_code != 200:
                    raise _error_of(answer)
                found: dict[str, Any] = answer.json()
                return found

        return self._calls.run(once, patience)

    def read(self, action: str, place: str, take: Callable[[], T]) -> T:
        """What `take` makes of an answer; an answer of another shape than Google's is told as the cloud's fault."""
        with errors_told(action, place):
            return take()

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            for service in self._services.values():
                service.transport.close()
            self._services.clear()
            if self._session is not None:
                self._session.close()
                self._session = None

    def _service(self, name: str) -> Any:
        with self._lock:
            if name not in self._services:
                options = {"api_endpoint": self._endpoint_url} if self._endpoint_url else None
                self._services[name] = SERVICES[name](credentials=self._signer(), client_options=options)
            return self._services[name]

    def _plain_session(self) -> Any:
        with self._lock:
            if self._session is None:
                session: Any = AuthorizedSession
                self._session = session(self._signer())
            return self._session

    def _signer(self) -> Tokens:
        if self._credentials is None:
            self._credentials = found_here()
        return self._credentials


def _first_page(pager: Any) -> Any:
    """The page that the library has read already; it would fetch the others by itself, without our retries."""
    return next(iter(pager.pages))


def _error_of(answer: Any) -> Exception:
    translate: Any = answered.from_http_response
    error: Exception = translate(answer)
    return error
