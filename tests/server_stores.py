"""Stores that are servers, all of them real: PostgreSQL, Redis and S3.

Each platform has a database of the PostgreSQL, a numbered database of the Redis and a bucket of the
S3. The tests start the servers, or take those that these environment variables name:

- ``MLSERVE_TEST_POSTGRES_URL``, of a user who may make databases,
- ``MLSERVE_TEST_REDIS_URL``, without the number of a database; all its databases are flushed,
- ``AWS_ENDPOINT_URL_S3`` with ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from mlserve_jupyter.settings import Settings
from tests.cache.redis_process import GivenRedis, RedisProcess
from tests.storage.databases import opened
from tests.storage.postgres_process import GivenPostgres, PostgresProcess, PostgresServer
from tests.storage.s3_process import S3Process
from tests.stores import URLS, Stores


class ServerStores(Stores):
    """A database, a Redis and a bucket for each platform."""

    def __init__(
        self, postgres: PostgresServer, redis: GivenRedis, s3: S3Process | GivenS3
    ) -> None:
        self._postgres = postgres
        self._redis = redis
        self._s3 = s3
        self._given: dict[Path, Settings] = {}
        self._template = postgres.new_database()
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(data_dir=Path(folder), database_url=self._template)
            with opened(settings):
                pass  # has the schema now, and is copied in less time than it takes to make it

    def at(self, data_dir: Path) -> Settings:
        if data_dir not in self._given:
            urls = {
                "database_url": lambda: self._postgres.new_database(template=self._template),
                "redis_url": self._redis.new_database,
                "artifacts_url": self._s3.new_bucket,
            }
            given: Any = {name: urls[name]() for name in URLS}
            self._given[data_dir] = Settings(data_dir=data_dir, **given)
        return self._given[data_dir]

    def drop_below(self, folder: Path) -> None:
        for data_dir in [each for each in self._given if each.is_relative_to(folder)]:
            self._postgres.drop_database(self._given.pop(data_dir).database_url)


class GivenS3:
    """The server that the environment names."""

    def new_bucket(self) -> str:
        """Return the URL of an empty bucket."""
        import boto3

        name = f"test-{uuid4().hex}"
        boto3.client("s3").create_bucket(Bucket=name)
        return f"s3://{name}"


@contextmanager
def server_stores(folder: Path) -> Iterator[Stores]:
    """Give the stores of the session, with the servers that they need."""
    with ExitStack() as stack:
        postgres: PostgresServer
        if url := os.environ.get("MLSERVE_TEST_POSTGRES_URL"):
            postgres = GivenPostgres(url)
        else:
            postgres = stack.enter_context(PostgresProcess())
        redis: GivenRedis
        if url := os.environ.get("MLSERVE_TEST_REDIS_URL"):
            redis = GivenRedis(url)
        else:
            redis = RedisProcess(folder, "--databases", "10000")
            stack.callback(redis.kill)
        s3: S3Process | GivenS3
        if os.environ.get("AWS_ENDPOINT_URL_S3"):
            s3 = GivenS3()
        else:
            s3 = S3Process(folder)
            stack.callback(s3.kill)
            # Where this process, and all servers that it starts, look for it.
            stack.enter_context(mock.patch.dict(os.environ, s3.environment))
        yield ServerStores(postgres, redis, s3)
