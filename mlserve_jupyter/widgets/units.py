"""Numbers as people read them, with their units."""

from __future__ import annotations

from datetime import datetime, timezone

NOTHING = "–"
"""Stands where there is no number."""


def whole(number: int) -> str:
    """Show a whole number in full: ``12,345``."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """Show a number of things: ``1 row``, ``1,200 rows``."""
    return f"{whole(number)} {noun}" if number == 1 else f"{whole(number)} {noun}s"


def short(number: float) -> str:
    """Show a number in about four characters: ``0.4``, ``12.3``, ``4,321``, ``12.3 k``."""
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if number >= (size if unit == " M" else 1e4):
            return f"{_digits(number / size)}{unit}"
    return _digits(number)


def share(part: float) -> str:
    """Show a share (0 to 1) in percent, without the sign; what is there is never shown as 0."""
    percent = part * 100
    if 0 < percent < 0.01:
        return "<0.01"
    if 99.99 < percent < 100:
        return ">99.99"
    return _digits(percent)


def latency(ms: float | None) -> tuple[str, str]:
    """Show a time as a number and its unit: ``("4.21", "ms")``, ``("1.3", "s")``."""
    if ms is None:
        return NOTHING, "ms"
    if ms >= 60_000:
        return _digits(ms / 60_000), "min"
    if ms >= 1000:
        return _digits(ms / 1000), "s"
    return _digits(ms), "ms"


def latency_text(ms: float | None) -> str:
    """Show a time with its unit: ``4.21 ms``."""
    return NOTHING if ms is None else " ".join(latency(ms))


def clock(at: datetime) -> str:
    """Show the time of day in UTC, to the second."""
    return f"{at.astimezone(timezone.utc):%H:%M:%S} UTC"


def moment(at: datetime) -> str:
    """Show a time in UTC, to the minute."""
    return f"{at.astimezone(timezone.utc):%d %b %H:%M} UTC"


def seconds_of(at: datetime) -> str:
    """Show a time in UTC, to the second."""
    return f"{at.astimezone(timezone.utc):%d %b %H:%M:%S} UTC"


def length(seconds: float) -> str:
    """Show a length of time: ``45 min``, ``24 h``, ``30 d``."""
    for unit, length_s, least_s in (("d", 86400, 2 * 86400), ("h", 3600, 2 * 3600)):
        if seconds >= least_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{max(seconds / 60, 1):.0f} min"


def since(at: datetime | None, now: datetime) -> str:
    """Show how long before ``now`` something was: ``12 s ago``."""
    if at is None:
        return "never"
    seconds = max((now - at).total_seconds(), 0)
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds // length_s:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _digits(number: float) -> str:
    """Give three digits, or all of those before the point."""
    if number == 0:
        return "0"
    if number >= 99.95:
        return f"{number:,.0f}"
    places = 1 if number >= 9.995 else 2 if number >= 0.995 else 3
    shown = f"{number:.{places}f}"
    return shown.rstrip("0").rstrip(".") if number < 0.9995 else shown
