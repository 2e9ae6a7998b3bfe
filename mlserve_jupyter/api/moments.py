"""Times and lengths of time as people write them: ``1d``, ``90min``, ``2026-05-01 12:00``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from mlserve_jupyter.errors import InvalidUsage

Moment = str | datetime | timedelta
"""A time (naive ones are in UTC), or how long ago it was."""

Length = str | float | timedelta
"""A length of time; numbers are seconds."""

_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(length: Length) -> int:
    """Return a length of time in seconds, such as that of ``30d``.

    Raises
    ------
    InvalidUsage
        It is none, or under a second.
    """
    if isinstance(length, timedelta):
        length = length.total_seconds()
    found = _read(length) if isinstance(length, str) else length
    if found is None or not 1 <= found < float("inf"):
        raise InvalidUsage(f"{str(length)!r} is no time: write 90min, 12h, 30d or 8w.")
    return int(found)


def moment(when: Moment, now: datetime | None = None) -> datetime:
    """Return a point in time in UTC.

    Parameters
    ----------
    when
        A time, an ISO 8601 text, or how long ago it was, such as ``1d``.
    now
        What it is counted back from; None for the present.

    Raises
    ------
    InvalidUsage
        It is none of these.
    """
    now = now or datetime.now(timezone.utc)
    try:
        if isinstance(when, str):
            ago_s = _read(when)
            when = _read_iso(when) if ago_s is None else timedelta(seconds=ago_s)
        if isinstance(when, timedelta):
            when = now - when
        if when.tzinfo is None:
            return when.replace(tzinfo=timezone.utc)
        return when.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise InvalidUsage(
            f"{str(when)!r} is no time: write how long ago it was (90min, 12h, 30d), or a time in "
            "UTC such as 2026-05-01T12:00."
        ) from None


def _read(text: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,9})\s*(s|min|h|d|w)", text.strip())
    return int(found[1]) * _UNITS_S[found[2]] if found else None


def _read_iso(text: str) -> datetime:
    # Python 3.10 knows no Z.
    return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text.strip()))
