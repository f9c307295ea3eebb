"""`providers.*: {type: aws}` - EC2. What belongs to one region is given per region."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from .daemon import check_web_url
from .fields import Settings, Text, Texts, VariableName, Whole, as_list, either, no_duplicates
from .identity import WithIdentity

DEFAULT_IMAGE_PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
_REGION = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d{1,2}")
_ID = {"subnets": "subnet-", "security_groups": "sg-", "id": "ami-"}


def _check_region(text: str) -> str:
    if re.fullmatch(rf"({_REGION.pattern})[a-z]", text):
        raise ValueError(f"'{text}' is a zone; the region is '{text[:-1]}'")
    if not _REGION.fullmatch(text):
        raise ValueError(f"'{text}' is not an AWS region; write one such as us-east-1")
    return text


def _check_id(text: str, info: ValidationInfo) -> str:
    prefix = _ID[info.field_name or "id"]
    if not re.fullmatch(rf"{prefix}[0-9a-f]+", text):
        raise ValueError(f"'{text}' is not an id; it must look like {prefix}0123456789abcdef0")
    return text


Region = Annotated[Text, AfterValidator(_check_region)]


def _every_region(value: object) -> object:
    """A plain list (or text) belongs to the only region: it is filed under ``*`` until that is known."""
    return value if isinstance(value, Mapping) or value is None else {"*": value}


Id = Annotated[Text, AfterValidator(_check_id)]
Ids = Annotated[tuple[Id, ...], BeforeValidator(as_list)]
_ID_SCHEMA = {"type": "string"}
_IDS_SCHEMA = {"anyOf": [_ID_SCHEMA, {"type": "array", "items": _ID_SCHEMA}]}
IdsByRegion = Annotated[
    dict[str, Ids],
    BeforeValidator(_every_region),
    either(_IDS_SCHEMA, {"type": "object", "additionalProperties": _IDS_SCHEMA}),
]
IdByRegion = Annotated[
    dict[str, Id],
    BeforeValidator(_every_region),
    either(_ID_SCHEMA, {"type": "object", "additionalProperties": _ID_SCHEMA}),
]


class AwsAuth(Settings):
    """How to sign: a profile, keys named by environment variable, and perhaps a role to assume.

    Empty means boto3's own search (environment, shared files, instance role).
    """

    profile: Text | None = None
    access_key_env: VariableName | None = None
    secret_key_env: VariableName | None = None
    session_token_env: VariableName | None = None
    role_arn: Annotated[Text, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/.+$")] | None = None
    external_id: Text | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> AwsAuth:
        if (self.access_key_env is None) != (self.secret_key_env is None):
            raise ValueError("access_key_env and secret_key_env go together; write both or neither")
        if self.profile is not None and self.access_key_env is not None:
            raise ValueError("write a profile or access_key_env, not both")
        if self.session_token_env is not None and self.access_key_env is None:
            raise ValueError("session_token_env needs access_key_env and secret_key_env")
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id needs role_arn")
        return self


class ImageFilter(Settings):
    """The newest image of `owner` (account id, ``amazon``, ``self``) whose name matches the glob `name`."""

    name: Text
    owner: Text


class AwsImage(Settings):
    """Exactly one of: `id` (per region when there are several), `ssm` (a parameter's path), `filter`."""

    id: IdByRegion | None = None
    ssm: Annotated[Text, Field(pattern=r"^/?[A-Za-z0-9_./:-]+$")] | None = None
    filter: ImageFilter | None = None

    @model_validator(mode="after")
    def _is_one_way(self) -> AwsImage:
        given = [name for name in ("id", "ssm", "filter") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "nothing"
            raise ValueError(f"write exactly one of id, ssm, filter; found {found}")
        return self


class AwsProvider(WithIdentity):
    """EC2. `instance_types` are globs (``g5.*``); empty allows all. `endpoint_url` is for emulators.

    `interruption_queue` is the URL of an SQS queue, this server's alone, into which an EventBridge rule puts EC2's
    interruption warnings and rebalance recommendations.
    """

    type: Literal["aws"]
    auth: AwsAuth = AwsAuth()
    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=50), AfterValidator(no_duplicates)]
    endpoint_url: Annotated[Text, AfterValidator(check_web_url)] | None = None
    subnets: IdsByRegion = Field(default_factory=dict)
    security_groups: IdsByRegion = Field(default_factory=dict)
    instance_profile: Text | None = None
    image: AwsImage = AwsImage(ssm=DEFAULT_IMAGE_PARAMETER)
    instance_types: Texts = ()
    key_name: Text | None = None
    interruption_queue: Annotated[Text, AfterValidator(check_web_url)] | None = None
    max_instances: Whole | None = None

    @model_validator(mode="after")
    def _regional_things_name_their_region(self) -> AwsProvider:
        by_region: dict[str, Mapping[str, Any]] = {
            "subnets": self.subnets,
            "security_groups": self.security_groups,
            "image.id": self.image.id or {},
        }
        for key, values in by_region.items():
            if "*" in values and len(self.regions) > 1:
                raise ValueError(f"{key} belongs to one region: write it as {{{self.regions[0]}: ..., ...}}")
            stray = next((region for region in values if region not in (*self.regions, "*")), None)
            if stray is not None:
                raise ValueError(f"{key} names '{stray}', which is not in regions")
        missing = [region for region in self.regions if self.image.id and not self.image_id(region)]
        if missing:
            raise ValueError(f"image.id has no image for {', '.join(missing)}")
        return self

    def subnets_in(self, region: str) -> tuple[str, ...]:
        """The subnets to launch into; empty means the region's default network."""
        return self.subnets.get(region) or self.subnets.get("*", ())

    def security_groups_in(self, region: str) -> tuple[str, ...]:
        """The security groups of every instance there; empty means the network's default group."""
        return self.security_groups.get(region) or self.security_groups.get("*", ())

    def image_id(self, region: str) -> str | None:
        """The image given by id for `region`, or None when it is found by `ssm` or `filter`."""
        ids = self.image.id or {}
        return ids.get(region) or ids.get("*")
