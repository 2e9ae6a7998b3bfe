"""A server that answers as S3 does, for the tests: moto's, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import boto3
import botocore.exceptions
import pytest

from tests.live import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


class S3Server(Protocol):
    """A place for buckets."""

    def new_bucket(self) -> str:
        """Make a bucket and return the URL of a folder in it."""
        ...


class GivenS3:
    """The S3 that the environment names."""

    def client(self):  # type: ignore[no-untyped-def]  # boto3 makes its classes at run time
        return boto3.client("s3")

    def new_bucket(self) -> str:
        bucket = f"bucket-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=bucket)
        return f"s3://{bucket}/mlserve"


class S3Process(GivenS3):
    """An S3 that can be killed and started again on its port; it forgets everything then."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._log = folder / "s3.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process find it."""
        return environment(self.endpoint)

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(2**26)},
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                self.client().list_buckets()
                return
            except botocore.exceptions.BotoCoreError:
                time.sleep(0.05)
        raise AssertionError(f"S3 does not start: {self._log.read_text()[-2000:]}")

    def client(self):  # type: ignore[no-untyped-def]  # boto3 makes its classes at run time
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Have this process, and those that it starts, find it."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def __enter__(self) -> S3Process:
        return self

    def __exit__(self, *of_the_exception: object) -> None:
        self.kill()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def environment(endpoint: str) -> dict[str, str]:
    """What makes a process take an endpoint for S3."""
    return {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
