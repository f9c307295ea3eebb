"""EC2 by boto3: spot and on-demand instances, idempotent by ClientToken, known by their tags."""
