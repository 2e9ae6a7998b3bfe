from __future__ import annotations

import pytest

from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.storage.paging import check_limit, decode_cursor, encode_cursor


def test_a_cursor_gives_its_position_back() -> None:
    assert decode_cursor(encode_cursor((2**56, "clf")), tuple[int, str]) == (2**56, "clf")


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "x", "====", "é", "W10"),
        encode_cursor(("clf",)),
        encode_cursor((1, 2)),
        encode_cursor((-1, "clf")),
        encode_cursor((2**60, "clf")),
        "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OSwieCJd",
    ],
)
def test_a_text_that_is_no_cursor_of_the_list_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="leave it out"):
        decode_cursor(cursor, tuple[int, str])


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_1_to_1000_items(limit: int) -> None:
    assert (check_limit(1), check_limit(1000)) == (1, 1000)
    with pytest.raises(InvalidRequest, match="1 to 1000"):
        check_limit(limit)
