"""Calls and answers of Azure Resource Manager, as far as the emulator must read and write them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

ROOT = r"/subscriptions/(?P<subscription>[^/]+)"
GROUP = rf"{ROOT}/resourceGroups/(?P<group>[^/]+)"
COMPUTE, NETWORK = "providers/Microsoft.Compute", "providers/Microsoft.Network"
VERSIONS = (
    rf"{ROOT}/{COMPUTE}/locations/(?P<location>[^/]+)/publishers/(?P<publisher>[^/]+)"
    r"/artifacttypes/vmimage/offers/(?P<offer>[^/]+)/skus/(?P<sku>[^/]+)/versions"
)
ROUTES: tuple[tuple[str, str, str], ...] = (
    ("vm.put", "PUT", rf"{GROUP}/{COMPUTE}/virtualMachines/(?P<name>[^/]+)"),
    ("vm.get", "GET", rf"{GROUP}/{COMPUTE}/virtualMachines/(?P<name>[^/]+)"),
    ("vm.delete", "DELETE", rf"{GROUP}/{COMPUTE}/virtualMachines/(?P<name>[^/]+)"),
    ("vm.list", "GET", rf"{GROUP}/{COMPUTE}/virtualMachines"),
    ("vm.list_all", "GET", rf"{ROOT}/{COMPUTE}/virtualMachines"),
    ("disk.list", "GET", rf"{GROUP}/{COMPUTE}/disks"),
    ("disk.delete", "DELETE", rf"{GROUP}/{COMPUTE}/disks/(?P<name>[^/]+)"),
    ("nic.list", "GET", rf"{GROUP}/{NETWORK}/networkInterfaces"),
    ("nic.delete", "DELETE", rf"{GROUP}/{NETWORK}/networkInterfaces/(?P<name>[^/]+)"),
    ("ip.list", "GET", rf"{GROUP}/{NETWORK}/publicIPAddresses"),
    ("ip.delete", "DELETE", rf"{GROUP}/{NETWORK}/publicIPAddresses/(?P<name>[^/]+)"),
    ("subnet.get", "GET", rf"{GROUP}/{NETWORK}/virtualNetworks/(?P<network>[^/]+)/subnets/(?P<name>[^/]+)"),
    ("operation.get", "GET", rf"{ROOT}/{COMPUTE}/locations/(?P<location>[^/]+)/operations/(?P<name>[^/]+)"),
    ("sku.list", "GET", rf"{ROOT}/{COMPUTE}/skus"),
    ("usage.list", "GET", rf"{ROOT}/{COMPUTE}/locations/(?P<location>[^/]+)/usages"),
    ("image.list", "GET", VERSIONS),
    ("image.get", "GET", rf"{VERSIONS}/(?P<version>[^/]+)"),
    ("own_image.get", "GET", rf"{GROUP}/{COMPUTE}/images/(?P<name>[^/]+)"),
    ("gallery.get", "GET", rf"{GROUP}/{COMPUTE}/galleries/(?P<gallery>[^/]+)/images/(?P<name>[^/]+)"),
    ("permissions.get", "GET", rf"{GROUP}/providers/Microsoft.Authorization/permissions"),
    ("prices.get", "GET", r"/api/retail/prices"),
    ("token.discover", "GET", r"/(?P<tenant>[^/]+)/v2.0/.well-known/openid-configuration"),
    ("token.post", "POST", r"/(?P<tenant>[^/]+)/oauth2/v2.0/token"),
)


@dataclass
class Request:
    """One call: `action` is its route's name, `names` what the route names, `body` its bytes."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    action: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def route(self) -> None:
        """Find `action` and `names`; both stay empty when nothing answers at this path."""
        for action, method, pattern in ROUTES:
            found = re.fullmatch(pattern, self.path, re.IGNORECASE)
            if method == self.method and found:
                self.action, self.names = action, found.groupdict()
                return

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `drop`: the connection is closed instead of answering."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """An answer in JSON; underscores in header names are hyphens."""
    sent = b"" if body is None else json.dumps(body).encode()
    return Answer(status, sent, {name.replace("_", "-"): value for name, value in headers.items()})


def error(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """An error in Azure's form."""
    return answer(status, {"error": {"code": code, "message": message or code}}, **headers)
