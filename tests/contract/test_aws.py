"""What is EC2's own: parameters of the call, pages, lag, fail-over, offers, garbage."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from contract.aws_harness import IMAGE_PARAMETER, REGION, AwsHarness
from contract.harness import running, terminate_all
from hostler.config.aws import AwsProvider as Section
from hostler.providers.aws.adapter import AwsProvider
from hostler.providers.aws.launch import MAX_USER_DATA_BYTES
from hostler.providers.aws.offers import gpu_of
from hostler.providers.aws.prices import ON_DEMAND_AGE_SECONDS
from hostler.providers.base import (
    AuthFailed,
    CloudState,
    InstanceNotFound,
    InsufficientCapacity,
    InvalidConfig,
    LaunchRequest,
    Market,
    Offer,
    ProviderContext,
    ProviderError,
    Scope,
    Unavailable,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GARBAGE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def sent(aws: AwsHarness, action: str = "RunInstances") -> dict[str, str]:
    """The parameters of the last call of `action`."""
    return [call.parameters for call in aws.cloud.calls if call.action == action][-1]


def test_a_spot_launch_asks_for_a_one_time_request_and_everything_of_ours(aws: AwsHarness) -> None:
    request = replace(aws.request(), max_usd_per_hour=0.5)
    aws.provider(key_name=None).launch(request)
    asked = sent(aws)
    assert asked["ClientToken"] == request.token
    assert base64.b64decode(asked["UserData"]).decode() == request.user_data
    assert asked["InstanceMarketOptions.MarketType"] == "spot"
    assert asked["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert asked["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"
    assert asked["InstanceMarketOptions.SpotOptions.MaxPrice"] == "0.500000"
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert asked["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert asked["BlockDeviceMapping.1.Ebs.VolumeSize"] == "60"
    assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    kinds = {asked[f"TagSpecification.{number}.ResourceType"] for number in (1, 2, 3)}
    assert kinds == {"instance", "volume", "spot-instances-request"}


def test_an_on_demand_launch_asks_for_no_spot_market(aws: AwsHarness) -> None:
    (made,) = aws.provider().launch(replace(aws.request(), offer=aws.offer(Market.ON_DEMAND))).instances
    assert made.market == "on_demand"
    assert not [name for name in sent(aws) if name.startswith("InstanceMarketOptions")]


def test_a_retry_sends_byte_identical_parameters(aws: AwsHarness) -> None:
    request = aws.request()
    aws.provider().launch(request)
    first = sent(aws)
    aws.provider().launch(request)
    assert sent(aws) == first
    assert aws.cloud.count("RunInstances") == 2


def test_what_the_section_names_goes_into_the_call(aws: AwsHarness) -> None:
    ec2 = aws.ec2()
    subnet = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])[
        "Subnets"
    ][0]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    provider = aws.provider(subnets=[subnet["SubnetId"]], security_groups=[group], key_name="laptop")
    provider.launch(aws.request())
    asked = sent(aws)
    assert (asked["SubnetId"], asked["SecurityGroupId.1"], asked["KeyName"]) == (
        subnet["SubnetId"],
        group,
        "laptop",
    )
    assert {offer.zone for offer in provider.offers()} == {"us-east-1a"}


def test_a_zone_without_a_subnet_of_ours_is_a_config_error_of_that_zone(aws: AwsHarness) -> None:
    subnet = aws.ec2().describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])[
        "Subnets"
    ][0]
    with pytest.raises(InvalidConfig) as caught:
        aws.provider(subnets=[subnet["SubnetId"]]).launch(aws.request())
    assert caught.value.scope is Scope.ZONE


def test_without_a_disk_size_the_root_disk_still_holds_an_environment(aws: AwsHarness) -> None:
    aws.provider().launch(replace(aws.request(), disk_bytes=None))
    assert sent(aws)["BlockDeviceMapping.1.Ebs.VolumeSize"] == "50"


def test_user_data_beyond_ec2s_limit_is_refused_before_the_call(aws: AwsHarness) -> None:
    with pytest.raises(InvalidConfig, match="16384"):
        aws.provider().launch(replace(aws.request(), user_data="x" * (MAX_USER_DATA_BYTES + 1)))
    assert aws.cloud.count("RunInstances") == 0


def test_the_newest_image_of_a_filter_is_launched(aws: AwsHarness) -> None:
    image = {"filter": {"owner": "099720109477", "name": "ubuntu/images/hvm-ssd/ubuntu-*"}}
    aws.provider(image=image).launch(aws.request())
    assert sent(aws)["ImageId"].startswith("ami-")


@pytest.mark.parametrize(
    "image",
    [
        {"id": "ami-0123456789abcdef0"},
        {"ssm": "/not/there"},
        {"filter": {"owner": "amazon", "name": "no such name"}},
    ],
)
def test_an_image_that_is_not_there_is_a_config_error_of_the_region(
    aws: AwsHarness, image: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        aws.provider(image=image).launch(aws.request())
    assert caught.value.scope is Scope.REGION
    assert "image" in caught.value.hint
    assert aws.cloud.count("RunInstances") == 0


def test_no_capacity_is_said_at_once_so_that_the_next_offer_can_be_asked(aws: AwsHarness) -> None:
    aws.cloud.exhaust("g5.xlarge", "us-east-1a", "spot")
    provider = aws.provider()
    with pytest.raises(InsufficientCapacity):
        provider.launch(aws.request())
    assert aws.cloud.count("RunInstances") == 1
    assert aws.waits == []
    other_zone = replace(aws.request(), offer=replace(aws.offer(), zone="us-east-1b"))
    other_market = replace(aws.request(), offer=aws.offer(Market.ON_DEMAND))
    assert provider.launch(other_zone).instances[0].zone == "us-east-1b"
    assert provider.launch(other_market).instances


def test_part_of_a_count_comes_with_an_error_for_the_rest(aws: AwsHarness) -> None:
    aws.cloud.stock = 2
    result = aws.provider().launch(aws.request(count=5))
    assert len(result.instances) == 2
    assert [type(error) for error in result.errors] == [InsufficientCapacity]
    assert len(running(aws.provider())) == 2


def test_a_throttled_launch_is_tried_once_more_and_makes_one(aws: AwsHarness) -> None:
    aws.cloud.fail("RunInstances", "RequestLimitExceeded", status=503)
    provider = aws.provider()
    provider.launch(aws.request())
    assert len(running(provider)) == 1
    assert len(aws.waits) == 1


def test_one_lost_reply_is_mended_within_the_call(aws: AwsHarness) -> None:
    aws.cloud.lose_reply("RunInstances")
    provider = aws.provider()
    (made,) = provider.launch(aws.request()).instances
    assert [one.ref for one in running(provider)] == [made.ref]


def test_a_newer_image_between_launch_and_retry_adopts_what_the_token_made(aws: AwsHarness) -> None:
    request = aws.request()
    (made,) = aws.provider().launch(request).instances
    aws.cloud.parameters[IMAGE_PARAMETER] = aws.newer_image_id
    (adopted,) = aws.provider().launch(request).instances
    assert adopted.ref == made.ref
    assert len(running(aws.provider())) == 1


@pytest.mark.slow
def test_a_hundred_and_thirty_instances_are_listed_through_pages(aws: AwsHarness) -> None:
    def ten() -> LaunchRequest:
        return replace(aws.request(count=10), offer=aws.offer(Market.ON_DEMAND))

    provider = aws.provider()
    made = {one.ref for _ in range(13) for one in provider.launch(ten()).instances}
    aws.cloud.page_size = 4
    before = aws.cloud.count("DescribeInstances")
    listed = provider.instances()
    assert len(made) == 130
    assert {one.ref for one in listed} == made
    assert len(listed) == 130
    assert aws.cloud.count("DescribeInstances") - before == 4
    aws.cloud.page_size = None
    ids = [ref.split("/")[1] for ref in made]
    aws.ec2().terminate_instances(InstanceIds=ids)


def test_an_error_on_a_later_page_is_an_error_and_never_a_shorter_list(aws: AwsHarness) -> None:
    provider = aws.provider()
    for _ in range(3):
        provider.launch(aws.request())
    aws.cloud.page_size = 1
    aws.cloud.answer("DescribeInstances", first_page(aws), times=1)
    aws.cloud.fail("DescribeInstances", "UnauthorizedOperation", status=403)
    with pytest.raises(AuthFailed):
        provider.instances()
    aws.cloud.page_size = None


def first_page(aws: AwsHarness) -> bytes:
    return (
        b'<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet/>'
        b"<nextToken>page-1</nextToken></DescribeInstancesResponse>"
    )


def test_pages_that_never_end_are_an_error(aws: AwsHarness) -> None:
    aws.cloud.answer("DescribeInstances", first_page(aws), times=10**6)
    with pytest.raises(Unavailable, match="pages don't end"):
        aws.provider().instances()


def test_an_instance_that_is_not_visible_yet_is_not_listed_and_not_found(aws: AwsHarness) -> None:
    now = [1000.0]
    aws.cloud.clock = lambda: now[0]
    aws.cloud.visibility_lag_seconds = 300.0
    provider = aws.provider()
    (made,) = provider.launch(aws.request()).instances
    assert provider.instances() == ()
    with pytest.raises(InstanceNotFound):
        provider.terminate(made.ref)
    now[0] += 301.0
    assert [one.ref for one in provider.instances()] == [made.ref]


def test_an_instance_whose_tags_lag_is_nobodys_until_they_show(aws: AwsHarness) -> None:
    now = [1000.0]
    aws.cloud.clock = lambda: now[0]
    aws.cloud.tag_lag_seconds = 60.0
    provider = aws.provider()
    (made,) = provider.launch(aws.request()).instances
    assert provider.instances() == ()
    with pytest.raises(InstanceNotFound):
        provider.terminate(made.ref)
    assert aws.cloud.count("TerminateInstances") == 0
    now[0] += 61.0
    assert [one.ref for one in provider.instances()] == [made.ref]


def test_states_pass_through_pending_and_shutting_down(aws: AwsHarness) -> None:
    now = [1000.0]
    aws.cloud.clock = lambda: now[0]
    aws.cloud.pending_seconds = aws.cloud.shutting_down_seconds = 30.0
    provider = aws.provider()
    seen = [provider.launch(aws.request()).instances[0]]
    for _ in range(2):
        seen.append(provider.instances()[0])
        now[0] += 31.0
    provider.terminate(seen[0].ref)
    for _ in range(2):
        seen.append(provider.instances()[0])
        now[0] += 31.0
    assert [one.state for one in seen] == [
        CloudState.PENDING,
        CloudState.PENDING,
        CloudState.RUNNING,
        CloudState.STOPPING,
        CloudState.TERMINATED,
    ]


def test_terminate_cancels_the_spot_request_even_if_that_failed_the_first_time(aws: AwsHarness) -> None:
    provider = aws.provider()
    (made,) = provider.launch(aws.request()).instances
    aws.cloud.fail("CancelSpotInstanceRequests", "UnauthorizedOperation", status=403)
    with pytest.raises(AuthFailed):
        provider.terminate(made.ref)
    assert [one.state for one in provider.instances()] == [CloudState.TERMINATED]
    provider.terminate(made.ref)
    assert aws.left() == []


def test_expired_credentials_say_what_to_renew(aws: AwsHarness) -> None:
    aws.cloud.fail("*", "ExpiredToken", message="The security token included in the request is expired")
    with pytest.raises(AuthFailed, match="ec2:DescribeInstances in us-east-1: ExpiredToken") as caught:
        aws.provider().instances()
    assert "renew" in caught.value.hint


def test_a_missing_permission_is_named(aws: AwsHarness) -> None:
    aws.cloud.fail("RunInstances", "UnauthorizedOperation", status=403)
    with pytest.raises(AuthFailed) as caught:
        aws.provider().launch(aws.request())
    assert caught.value.hint == "allow ec2:RunInstances to the daemon's user or role"


def test_no_credentials_at_all_is_an_auth_failure(aws: AwsHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AuthFailed) as caught:
        aws.provider().instances()
    assert caught.value.scope is Scope.PROVIDER
    monkeypatch.undo()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def test_a_role_is_assumed_and_used(aws: AwsHarness) -> None:
    provider = aws.provider(auth={"role_arn": "arn:aws:iam::123456789012:role/fleet", "external_id": "ours"})
    assert provider.instances() == ()
    (asked,) = [call.parameters for call in aws.cloud.calls if call.action == "AssumeRole"]
    assert (asked["RoleArn"], asked["ExternalId"]) == ("arn:aws:iam::123456789012:role/fleet", "ours")


def test_a_cloud_that_does_not_answer_is_unavailable_and_nothing_was_created() -> None:
    section = Section.model_validate(
        {"type": "aws", "regions": [REGION], "endpoint_url": "http://127.0.0.1:1", "image": {"ssm": "/x"}}
    )
    provider = AwsProvider("aws", section, ProviderContext("server", "/nonexistent"), sleep=lambda _: None)
    offer = Offer("aws", REGION, "us-east-1a", "g5.xlarge", Market.SPOT, 4.0, 2**30, None, 0.3)
    with pytest.raises(Unavailable) as caught:
        provider.launch(LaunchRequest("h-a", offer, "#!/bin/sh\n", {}))
    assert not caught.value.maybe_created
    with pytest.raises(Unavailable):
        provider.instances()


def test_offers_span_zones_and_markets_with_prices_of_their_own(aws: AwsHarness) -> None:
    aws.cloud.spot_usd = {("g5.xlarge", "us-east-1a"): "0.412300", ("g5.xlarge", "us-east-1b"): None}
    offers = {offer.key: offer for offer in aws.provider(instance_types=["g5.xlarge"]).offers()}
    priced = {(key.zone, key.market): offer.usd_per_hour for key, offer in offers.items()}
    assert priced["us-east-1a", "spot"] == 0.4123
    assert priced["us-east-1b", "spot"] is None
    assert priced["us-east-1a", "on_demand"] == priced["us-east-1b", "on_demand"] == 1.006
    (gpu,) = {offer.gpu for offer in offers.values()}
    assert gpu is not None
    assert (gpu.name, gpu.count) == ("A10G", 1)


@pytest.mark.parametrize("price", ["0.0000000000", "-1", "NaN", "inf", "free", ""])
def test_a_price_that_is_none_is_no_price(aws: AwsHarness, price: str) -> None:
    aws.cloud.on_demand_usd = {"g5.xlarge": price}
    aws.cloud.default_spot_usd = price
    offers = aws.provider(instance_types=["g5.xlarge"]).offers()
    assert {offer.usd_per_hour for offer in offers} == {None}


def test_without_access_to_the_price_list_spot_is_still_sold(aws: AwsHarness) -> None:
    aws.cloud.answer("GetProducts", b'{"__type":"AccessDeniedException","message":"no"}', status=400)
    offers = aws.provider(instance_types=["g5.xlarge"]).offers()
    assert {offer.usd_per_hour for offer in offers if offer.market is Market.ON_DEMAND} == {None}
    assert {offer.usd_per_hour for offer in offers if offer.market is Market.SPOT} == {0.3}


def test_the_price_list_is_read_through_pages_and_kept(aws: AwsHarness) -> None:
    aws.cloud.on_demand_usd = {f"x{number}.large": "1.5" for number in range(250)} | {"g5.xlarge": "1.006"}
    now = [0.0]
    context = ProviderContext(aws.server_id, "/nonexistent")
    section = aws.section(instance_types=["g5.xlarge"])
    provider = AwsProvider("aws", section, context, monotonic=lambda: now[0], sleep=lambda _: None)
    provider.offers()
    provider.offers()
    assert aws.cloud.count("GetProducts") == 3
    now[0] += ON_DEMAND_AGE_SECONDS + 1
    provider.offers()
    assert aws.cloud.count("GetProducts") == 6


def test_the_list_of_types_is_read_through_pages(aws: AwsHarness) -> None:
    kinds = ["g5.xlarge", "g5.2xlarge", "g4dn.xlarge", "t3.micro", "t3.small"]
    whole = {offer.key for offer in aws.provider(instance_types=kinds).offers()}
    asked_whole = aws.cloud.count("DescribeInstanceTypeOfferings")
    aws.cloud.page_size = 9
    paged = {offer.key for offer in aws.provider(instance_types=kinds).offers()}
    aws.cloud.page_size = None
    assert paged == whole
    assert {key.instance_type for key in whole} == set(kinds)
    assert aws.cloud.count("DescribeInstanceTypeOfferings") > asked_whole + 2


@pytest.mark.slow
def test_globs_choose_the_types_that_are_offered(aws: AwsHarness) -> None:
    kinds = {offer.instance_type for offer in aws.provider(instance_types=["g5.*", "t3.micro"]).offers()}
    assert {"g5.xlarge", "g5.48xlarge", "t3.micro"} <= kinds
    assert {kind.split(".")[0] for kind in kinds} == {"g5", "t3"}
    assert {kind for kind in kinds if kind.startswith("t3.")} == {"t3.micro"}


@pytest.mark.parametrize(
    ("name", "memory_mib", "count", "ours"),
    [
        ("A10G", 24_576, 1, "A10G"),
        ("T4", 16_384, 4, "T4"),
        ("T4g", 16_384, 1, "T4G"),
        ("L4", 24_576, 1, "L4"),
        ("L40S", 49_152, 8, "L40S"),
        ("V100", 16_384, 1, "V100"),
        ("V100", 32_768, 8, "V100-32GB"),
        ("A100", 40_960, 8, "A100-40GB"),
        ("A100", 81_920, 8, "A100-80GB"),
        ("H100", 81_920, 8, "H100"),
        ("H200", 144_384, 8, "H200"),
        ("Radeon Pro V520", 8_192, 1, "RADEON-PRO-V520"),
    ],
)
def test_gpu_names_are_normalised(name: str, memory_mib: int, count: int, ours: str) -> None:
    described = {
        "GpuInfo": {"Gpus": [{"Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": memory_mib}}]}
    }
    found = gpu_of(described)
    assert found is not None
    assert (found.name, found.count, found.memory_bytes) == (ours, count, memory_mib * 2**20)


def test_one_broken_region_costs_only_itself_for_offers_and_everything_for_lists(aws: AwsHarness) -> None:
    image = {"id": {REGION: aws.image_id, "us-west-2": "ami-0123456789abcdef0"}}
    provider = aws.provider(regions=[REGION, "us-west-2"], image=image, instance_types=["g5.xlarge"])
    assert {offer.region for offer in provider.offers()} == {REGION}
    (made,) = provider.launch(aws.request()).instances
    assert [one.ref for one in provider.instances()] == [made.ref]
    aws.cloud.fail("DescribeInstances", "UnauthorizedOperation", status=403)
    with pytest.raises(AuthFailed):
        provider.instances()


def test_the_doctor_names_what_is_wrong(aws: AwsHarness) -> None:
    aws.cloud.fail("RunInstances", "UnauthorizedOperation", status=403, times=2)
    checks = {check.name: check for check in aws.provider(image={"ssm": "/not/there"}).check()}
    assert not checks["us-east-1 image"].ok
    checks = {check.name: check for check in aws.provider().check()}
    assert not checks["us-east-1 launch spot"].ok
    assert "ec2:RunInstances" in checks["us-east-1 launch spot"].hint
    assert checks["us-east-1 image"].ok


def test_the_doctor_stops_at_credentials_that_do_not_work(aws: AwsHarness) -> None:
    aws.cloud.fail("GetCallerIdentity", "InvalidClientTokenId", status=403)
    (check,) = aws.provider().check()
    assert (check.name, check.ok) == ("credentials", False)
    assert check.hint


@pytest.fixture
def one_instance(aws: AwsHarness) -> Iterator[tuple[AwsProvider, str]]:
    provider = aws.provider()
    yield provider, provider.launch(aws.request()).instances[0].ref
    aws.cloud.heal()
    terminate_all(provider)


def instance_described(inside: str) -> bytes:
    item = f"<reservationSet><item><instancesSet><item>{inside}</item></instancesSet></item></reservationSet>"
    return f"<DescribeInstancesResponse>{item}</DescribeInstancesResponse>".encode()


BODIES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(str.encode),
    st.sampled_from(
        [
            b"",
            b"<html><body>502 Bad Gateway</body></html>",
            b"<DescribeInstancesResponse><reservationSet><item/></reservationSet></DescribeInstancesResponse>",
            b"<DescribeInstancesResponse><reservationSet><item><instancesSet><item/></instancesSet></item></reservationSet>",
            b"<RunInstancesResponse><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet>",
            instance_described(
                "<instanceId>i-1</instanceId><instanceState><name>exploded</name></instanceState>"
            ),
            instance_described("<launchTime>yesterday</launchTime>"),
            instance_described("<tagSet><item/></tagSet>"),
            json.dumps({"__type": "x"}).encode(),
        ]
    ),
)


@GARBAGE
@given(body=BODIES, status=st.sampled_from([200, 204, 301, 400, 403, 404, 429, 500, 502, 503]))
def test_whatever_the_cloud_answers_only_a_provider_error_comes_out(
    one_instance: tuple[AwsProvider, str], aws: AwsHarness, body: bytes, status: int
) -> None:
    provider, ref = one_instance
    for act in (
        provider.instances,
        lambda: provider.terminate(ref),
        lambda: provider.launch(aws.request()),
    ):
        aws.cloud.answer("*", body, status=status, times=100)
        try:
            act()
        except ProviderError as error:
            assert error.detail
        finally:
            aws.cloud.heal()


def test_an_unreadable_answer_to_a_launch_leaves_the_intent_open(aws: AwsHarness) -> None:
    request = aws.request()
    aws.cloud.answer("RunInstances", b"<RunInstancesResponse><instancesSet><item/>", times=2, forward=True)
    provider = aws.provider()
    with pytest.raises(Unavailable) as caught:
        provider.launch(request)
    assert caught.value.maybe_created
    (made,) = provider.launch(request).instances
    assert [one.ref for one in running(provider)] == [made.ref]
