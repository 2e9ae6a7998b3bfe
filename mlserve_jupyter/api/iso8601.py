"""Datetimes and durations in the ISO 8601 forms that the wire has; standard library only.

The server checks with this what callers send, and workers and kernels read and write with it, so
that all three agree to the nanosecond.
"""

from __future__ import annotations

import re
from datetime import date

NS_PER_UNIT = {
    "W": 604_800 * 10**9,
    "D": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
"""Nanoseconds of the units that numpy's and pandas' datetimes and timedeltas count in."""

_INT64_MAX = 2**63 - 1

_DATETIME = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:[.,](\d{1,9}))?)?"
    r"(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?)?)?",
    re.ASCII,
)
_DURATION = re.compile(
    r"([+-])?P(?=[\d+-]|T[\d+-])"
    r"(?:([+-]?\d{1,19})W)?(?:([+-]?\d{1,19})D)?"
    r"(?:T(?=[\d+-])(?:([+-]?\d{1,19})H)?(?:([+-]?\d{1,19})M)?(?:([+-]?)(\d{1,19})(?:[.,](\d{1,9}))?S)?)?",
    re.ASCII,
)


def parse_datetime_ns(text: str) -> tuple[int, bool]:
    """Read an ISO 8601 datetime such as ``2024-05-01T12:30:00.25+02:00`` or ``2024-05-01``.

    Returns
    -------
    tuple of int and bool
        Nanoseconds since 1970-01-01, in UTC where the text carries an offset and in its own
        (naive) time where it carries none; and whether it carries one.

    Raises
    ------
    ValueError
        When the text is not such a datetime, or names a day that does not exist.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(text)
    day, hours, minutes, seconds, fraction, offset = match.groups()
    total_s = (date.fromisoformat(day).toordinal() - 719_163) * 86_400
    if hours:
        total_s += int(hours) * 3_600 + int(minutes) * 60 + int(seconds or 0)
    if offset and offset != "Z":
        parts = [int(part) for part in offset[1:].split(":")]
        offset_s = parts[0] * 3_600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0)
        total_s -= -offset_s if offset[0] == "-" else offset_s
    return total_s * 10**9 + int((fraction or "").ljust(9, "0")), offset is not None


def parse_duration_ns(text: str) -> int:
    """Read an ISO 8601 duration such as ``P1DT2H3M4.5S``, ``-PT1S`` or ``P2W``.

    Years and months, which have no fixed length, are refused. Components may carry a sign of
    their own, as pandas writes them (``P-1DT23H59M59S``).

    Returns
    -------
    int
        Nanoseconds.

    Raises
    ------
    ValueError
        When the text is not such a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    sign, weeks, days, hours, minutes, seconds_sign, seconds, fraction = match.groups()
    total = int(weeks or 0) * NS_PER_UNIT["W"] + int(days or 0) * NS_PER_UNIT["D"]
    total += int(hours or 0) * NS_PER_UNIT["h"] + int(minutes or 0) * NS_PER_UNIT["m"]
    tail = int(seconds or 0) * 10**9 + int((fraction or "").ljust(9, "0"))
    total += -tail if seconds_sign == "-" else tail
    return -total if sign == "-" else total


def format_duration(count: int, unit: str) -> str:
    """Write ``count`` times ``unit`` as an ISO 8601 duration, such as ``P1DT2H3M4.5S``.

    Parameters
    ----------
    count
        A number of units, of either sign.
    unit
        One of :data:`NS_PER_UNIT`.
    """
    total = abs(count) * NS_PER_UNIT[unit]
    days, rest = divmod(total, NS_PER_UNIT["D"])
    hours, rest = divmod(rest, NS_PER_UNIT["h"])
    minutes, rest = divmod(rest, NS_PER_UNIT["m"])
    seconds, fraction = divmod(rest, 10**9)
    second = f"{seconds}.{fraction:09d}".rstrip("0") if fraction else str(seconds)
    time = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    time += f"{second}S" if seconds or fraction or not (days or time) else ""
    text = (f"{days}D" if days else "") + (f"T{time}" if time else "")
    return f"{'-' if count < 0 else ''}P{text}"


def unit_of(dtype: str) -> str:
    """Name the unit of a datetime or timedelta dtype, such as ``ns``.

    Understands numpy's and pandas' (``datetime64[ns, UTC]``), and pandas' Arrow ones
    (``timestamp[us, tz=UTC][pyarrow]``). Objects of Python's own types count in microseconds,
    and pandas' scalars in nanoseconds at the finest.
    """
    match = re.search(r"\[(?:\d+)?([A-Za-zμ]+)", dtype)
    return match.group(1) if match else "ns"


def is_aware(dtype: str) -> bool:
    """Tell whether a datetime dtype carries a time zone."""
    return "[" in dtype and "," in dtype


def fits_unit(count_ns: int, unit: str) -> bool:
    """Tell whether so many nanoseconds are a whole number of ``unit`` that an int64 can hold.

    The smallest int64 stands for NaT, and is left out.
    """
    count, rest = divmod(count_ns, NS_PER_UNIT[unit])
    return rest == 0 and -_INT64_MAX <= count <= _INT64_MAX
