"""What settings say of themselves in messages."""

from __future__ import annotations

import pytest

from mlserve_jupyter.settings import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:SECRET@host/bucket/", "s3://host/bucket"),
        ("s3://key:SEC/RET@host/bucket", "s3://host/bucket"),
        ("s3://key:SEC@RET@host/bucket?token=SECRET", "s3://host/bucket"),
        ("s3://key:SEC?RET@host/bucket", "s3://…"),
        ("s3://bucket?token=SEC@RET", "s3://…"),
        ("key:SECRET@host/bucket", "host/bucket"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_a_url_is_shown_without_its_password_however_that_is_written(url: str, shown: str) -> None:
    assert shown_url(url) == shown
