"""The fault layer before moto does what EC2 does, and shows an adapter's mistakes: plain boto3 against it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from contract.aws_harness import REGION, AwsHarness
from emulators.aws import query


@pytest.fixture
def ec2(aws: AwsHarness) -> Any:
    import boto3

    config = Config(retries={"total_max_attempts": 1})
    return boto3.client("ec2", region_name=REGION, endpoint_url=aws.server.url, config=config)


def run(ec2: Any, aws: AwsHarness, **more: Any) -> list[str]:
    """Launch as an adapter would; the instances bear the harness's tag, so that its end removes them."""
    tags = [{"Key": "hostler:server", "Value": aws.server_id}]
    asked = {
        "ImageId": aws.image_id,
        "InstanceType": "g5.xlarge",
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}],
    }
    return [one["InstanceId"] for one in ec2.run_instances(**{**asked, **more})["Instances"]]


def refusal(ec2: Any, aws: AwsHarness, **more: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        run(ec2, aws, **more)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def alive(ec2: Any, aws: AwsHarness) -> int:
    mine = [{"Name": "tag:hostler:server", "Values": [aws.server_id]}]
    return sum(len(one["Instances"]) for one in ec2.describe_instances(Filters=mine)["Reservations"])


def test_a_token_used_again_gives_the_same_instance_and_other_parameters_are_refused(
    ec2: Any, aws: AwsHarness
) -> None:
    token = aws.token()
    assert run(ec2, aws, ClientToken=token) == run(ec2, aws, ClientToken=token)
    assert refusal(ec2, aws, ClientToken=token, InstanceType="t3.micro") == (
        "IdempotentParameterMismatch",
        400,
    )
    assert alive(ec2, aws) == 1


def test_an_adapter_that_retries_without_its_token_would_leak(ec2: Any, aws: AwsHarness) -> None:
    aws.cloud.lose_reply("RunInstances")
    with pytest.raises(ConnectionClosedError):
        run(ec2, aws, ClientToken=aws.token())
    run(ec2, aws, ClientToken=aws.token())
    assert alive(ec2, aws) == 2


def test_no_capacity_is_an_http_500_for_that_type_zone_and_market_alone(ec2: Any, aws: AwsHarness) -> None:
    aws.cloud.exhaust("g5.xlarge", "us-east-1a", "on_demand")
    assert refusal(ec2, aws) == ("InsufficientInstanceCapacity", 500)
    assert run(ec2, aws, Placement={"AvailabilityZone": "us-east-1b"})
    assert run(ec2, aws, InstanceType="t3.micro")
    aws.cloud.restock()
    assert run(ec2, aws)


def test_less_stock_than_the_least_asked_for_is_no_capacity(ec2: Any, aws: AwsHarness) -> None:
    aws.cloud.stock = 2
    assert refusal(ec2, aws, MinCount=3, MaxCount=3) == ("InsufficientInstanceCapacity", 500)
    assert len(run(ec2, aws, MinCount=1, MaxCount=3)) == 2


def test_a_fault_is_met_as_often_as_it_was_armed(ec2: Any, aws: AwsHarness) -> None:
    aws.cloud.fail("RunInstances", "RequestLimitExceeded", status=503, times=2)
    assert refusal(ec2, aws) == ("RequestLimitExceeded", 503)
    assert refusal(ec2, aws) == ("RequestLimitExceeded", 503)
    assert run(ec2, aws)


def test_pages_join_to_the_whole_list_without_repeats(ec2: Any, aws: AwsHarness) -> None:
    made = {run(ec2, aws)[0] for _ in range(5)}
    aws.cloud.page_size = 2
    mine = [{"Name": "tag:hostler:server", "Values": [aws.server_id]}]
    pages = list(ec2.get_paginator("describe_instances").paginate(Filters=mine))
    found = [
        one["InstanceId"] for page in pages for group in page["Reservations"] for one in group["Instances"]
    ]
    assert len(pages) == 3
    assert sorted(found) == sorted(made)


def test_an_image_that_is_not_there_is_refused_by_moto_itself(ec2: Any, aws: AwsHarness) -> None:
    assert refusal(ec2, aws, ImageId="ami-0123456789abcdef0")[0] == "InvalidAMIID.NotFound"


def test_a_call_is_read_with_its_region_and_service() -> None:
    signed = (
        "AWS4-HMAC-SHA256 Credential=key/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
    )
    asked = query.parse(
        {"authorization": signed}, b"Action=DescribeInstances&Filter.1.Name=a&Filter.1.Value.1=b+c"
    )
    assert (asked.service, asked.region, asked.action) == ("ec2", "eu-west-1", "DescribeInstances")
    assert asked.filters() == {"a": ["b c"]}
