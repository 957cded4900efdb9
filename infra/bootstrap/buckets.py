"""Make the buckets that are not there yet: `python buckets.py mlflow lcm-lora`, again and again."""

from __future__ import annotations

import sys

import boto3


def main(names: list[str]) -> None:
    """Make each bucket; address and credentials are AWS's own environment variables."""
    store = boto3.client("s3")
    there = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            store.create_bucket(Bucket=name)


if __name__ == "__main__":
    main(sys.argv[1:])
