from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.storage.s3_process import S3Process


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Process]:
    """A server that answers as S3 does."""
    process = S3Process(tmp_path_factory.mktemp("s3"))
    yield process
    process.kill()
