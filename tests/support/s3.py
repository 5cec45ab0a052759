"""Buckets of a gateway for tests, and the store in them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3

from tests.support.ceph import ACCESS_KEY, SECRET_KEY, Gateway
from wheelfarm.settings import Settings
from wheelfarm_services.store.s3 import S3Store, open_bucket, s3_client

CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An empty bucket, and where it is."""

    name: str
    endpoint: str

    def settings(self, *, endpoint: str = "") -> Settings:
        return Settings(store=f"s3://{self.name}/some/prefix", s3_endpoint=endpoint or self.endpoint)

    def store(self, *, endpoint: str = "", attempts: int = 6) -> S3Store:
        return open_bucket(self.settings(endpoint=endpoint), attempts=attempts)

    @property
    def website(self) -> str:
        """Where the store's pages are, once they are published, as by the endpoint for web sites."""
        return f"http://localhost:{urlsplit(self.endpoint).port}/{self.name}/some/prefix"

    def publish_pages(self) -> None:
        """Let everybody read what installers need of the store, folders by their `index.html` (docs/wheel-index.md)."""
        folders = [f"arn:aws:s3:::{self.name}/some/prefix/{folder}/*" for folder in ("flat", "simple", "wheels")]
        rules = [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": folders},
            {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{self.name}"},
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": rules})
        self.client.put_bucket_policy(Bucket=self.name, Policy=policy)
        self.client.put_bucket_website(
            Bucket=self.name, WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}}
        )

    @property
    def client(self) -> Any:
        return s3_client(boto3.Session(), self.settings(), attempts=3)


def make_bucket(gateway: Gateway) -> Bucket:
    bucket = Bucket(name=f"farm-{uuid4().hex[:12]}", endpoint=gateway.url)
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


@contextmanager
def credentials() -> Iterator[None]:
    """boto3's own chain finds the test user's credentials, and none of this machine's."""
    mine = {**CREDENTIALS, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in before:
        del os.environ[name]
    os.environ.update(mine, AWS_EC2_METADATA_DISABLED="true")
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)
