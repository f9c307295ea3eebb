"""The EC2 query protocol, as far as the fault layer must read and write it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_SCOPE = re.compile(r"Credential=[^/]*/\d{8}/([^/]+)/([^/]+)/aws4_request")


@dataclass
class Request:
    """One call: `service` and `region` from its signature, `action`, and its parameters (EC2 query) or JSON body."""

    service: str
    region: str
    action: str
    parameters: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def numbered(self, prefix: str) -> list[str]:
        """The values of ``prefix.1``, ``prefix.2`` ..."""
        found: list[str] = []
        while f"{prefix}.{len(found) + 1}" in self.parameters:
            found.append(self.parameters[f"{prefix}.{len(found) + 1}"])
        return found

    def filters(self) -> dict[str, list[str]]:
        """Filter names with their values."""
        found: dict[str, list[str]] = {}
        index = 1
        while f"Filter.{index}.Name" in self.parameters:
            found[self.parameters[f"Filter.{index}.Name"]] = self.numbered(f"Filter.{index}.Value")
            index += 1
        return found

    def encoded(self) -> bytes:
        """The body to send on."""
        return urlencode(self.parameters).encode() if self.parameters else self.body


def parse(headers: dict[str, str], body: bytes) -> Request:
    """What a signed call asks for."""
    scope = _SCOPE.search(headers.get("authorization", ""))
    region, service = scope.groups() if scope else ("us-east-1", "ec2")
    target = headers.get("x-amz-target", "")
    if target:
        return Request(service, region, target.rpartition(".")[2], {}, body)
    parameters = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return Request(service, region, parameters.get("Action", ""), parameters, body)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `drop`: the connection is closed instead of answering."""

    status: int
    body: bytes
    content_type: str = "text/xml"
    drop: bool = False


def error(code: str, message: str = "", status: int = 400) -> Answer:
    """An error in EC2's form."""
    return Answer(
        status,
        (
            '<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>'
            f"<Code>{escape(code)}</Code><Message>{escape(message or code)}</Message></Error></Errors>"
            "<RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>"
        ).encode(),
    )


def tree(body: bytes) -> ET.Element:
    """The answer as elements without namespace, so that they can be looked up by plain names."""
    root = ET.fromstring(body)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def text(root: ET.Element) -> bytes:
    """Elements back to an answer's body."""
    root.set("xmlns", NAMESPACE)
    found: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def page(root: ET.Element, list_name: str, start: int, size: int) -> None:
    """Leave only `size` items of the list from `start` on, with a token for the rest."""
    items = root.find(list_name)
    if items is None:
        return
    every = list(items)
    for item in every[:start] + every[start + size :]:
        items.remove(item)
    for old in root.findall("nextToken"):
        root.remove(old)
    if start + size < len(every):
        ET.SubElement(root, "nextToken").text = f"page-{start + size}"
