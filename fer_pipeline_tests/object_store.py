"""An object store on this machine for tests: moto's server, and a bucket of it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

BUCKET = "faces"
SECRET = "secret-of-the-test-store"  # noqa: S105 - moto takes any


@contextmanager
def object_store() -> Iterator[str]:
    """A running store with an empty bucket, named by this process' environment; its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-test-store")
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            client().create_bucket(Bucket=BUCKET)
            try:
                yield f"s3://{BUCKET}"
            finally:
                empty()
    finally:
        server.stop()
        # Kept file systems know this store's port, and the next store has another.
        S3FileSystem.clear_instance_cache()


def client() -> Any:
    """A plain S3 client of the store that the environment names."""
    return boto3.client("s3")


def empty() -> None:
    """Delete what the bucket holds, which outlives the server: moto keeps it in this process."""
    s3 = client()
    for name in keys(""):
        s3.delete_object(Bucket=BUCKET, Key=name)


def upload(folder: Path, prefix: str) -> None:
    """Put every file of a folder into the bucket, under a prefix."""
    s3 = client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())


def keys(prefix: str) -> list[str]:
    """The names of the objects under a prefix."""
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]
