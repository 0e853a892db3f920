"""Run S3 servers, a fast one in this process and a real one that checks keys, with empty buckets."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs
import pytest

from tests.helpers.programs import free_port, started

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "mine", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a server while the block runs."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        yield "http://{}:{}".format(*running.get_host_and_port())
    finally:
        running.stop()


@contextmanager
def guarded_users(address: str, policies: dict[str, list[str]]) -> Iterator[dict[str, tuple[str, str]]]:
    """Create users with a key and a secret each, to whom the server allows only these actions, while the block runs.

    Args:
        policies: Allowed actions of each user, such as `s3:PutObject`.
    """
    import boto3
    import requests

    own = {"aws_access_key_id": "me", "aws_secret_access_key": "mine", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=address, **own)
    keys = {}
    for name, actions in policies.items():
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=document)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        keys[name] = (made["AccessKeyId"], made["SecretAccessKey"])
    requests.post(f"{address}/moto-api/reset-auth", data="0", timeout=20).raise_for_status()
    try:
        yield keys
    finally:
        requests.post(f"{address}/moto-api/reset-auth", data="inf", timeout=20).raise_for_status()


@contextmanager
def s3_bucket(address: str, name: str) -> Iterator[str]:
    """Yield the URI of an empty bucket of the server, which the environment names while the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (
            ("ACCESS_KEY_ID", "me"),
            ("SECRET_ACCESS_KEY", "mine"),
            ("DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(f"AWS_{variable}", value)
        patch.setenv("AWS_ENDPOINT_URL", address)
        uri = f"s3://{name}?allow_bucket_creation=true&allow_bucket_deletion=true"
        store, _ = pyarrow.fs.FileSystem.from_uri(uri)
        store.create_dir(name)
        yield f"s3://{name}"
        store.delete_dir(name)


@contextmanager
def seaweed_server() -> Iterator[str]:
    """Yield the address of a SeaweedFS server that accepts the keys of `ENVIRONMENT`; it has no buckets at first."""
    parts = ("master", "volume", "filer", "s3")
    ports = {f"{part}.port{kind}": free_port() for part in parts for kind in ("", ".grpc")}
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 8,
        "s3.autoCreateBucket": "false",
        # Both use one port for all servers of a machine, and a server whose port is taken ends.
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        **ports,
    }
    with tempfile.TemporaryDirectory(prefix="seaweed-") as folder:
        command = [str(Path(sys.executable).with_name("weed")), f"-logdir={folder}", "server", f"-dir={folder}"]
        command += ["-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]
        # Before its volumes are found, a bucket can be created but not written to.
        with started(Path(folder), ports["s3.port"], *command, ready="/healthz", env=ENVIRONMENT) as port:
            yield f"http://127.0.0.1:{port}"
