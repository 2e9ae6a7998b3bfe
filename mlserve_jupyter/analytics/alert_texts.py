"""Alerts in words."""

from __future__ import annotations

from datetime import datetime

from mlserve_jupyter.api.alerts import AlertState, Rule

_SUBJECTS: dict[Rule, str] = {
    "p95_ms": "The p95 of {title}",
    "error_rate": "The error rate of {title}",
    "drift": "The drift of {title}",
    "disk_used": "The used share of the disk {title}",
    "key_use": "The use of {title}",
}


def sentence(
    rule: Rule,
    title: str,
    state: AlertState,
    value: float,
    worst: float,
    limit: float,
    began_at: datetime,
) -> str:
    """Say what an alert is about and how it stands, by the limit that it had when it fired."""
    since = f"{began_at:%Y-%m-%d %H:%M} UTC"
    subject = _SUBJECTS[rule].format(title=title)
    now, allowed, highest = (shown(rule, each) for each in (value, limit, worst))
    if state == "ended" and value > limit:
        return (
            f"{subject} is {now}, over its limit of {allowed} when it fired, but within the one "
            f"that it has since; {highest} at worst since {since}."
        )
    if state == "firing" and value <= limit:
        return (
            f"{subject} was over its limit of {allowed}, {highest} at worst, since {since}; it is "
            f"{now}."
        )
    if state == "ended":
        return (
            f"{subject} is {now}, within its limit of {allowed} again; {highest} at worst since "
            f"{since}."
        )
    verb = "is" if state == "firing" else "was in one look"
    return f"{subject} {verb} {now}, over its limit of {allowed}, since {since}."


def shown(rule: Rule, value: float) -> str:
    """Show a value of a rule with its unit."""
    if rule == "p95_ms":
        return f"{value:.4g} ms"
    if rule in ("error_rate", "disk_used"):
        return f"{value:.1%}"
    if rule == "drift":
        return f"a PSI of {value:.3g}"
    return f"{value:.3g} times its busiest hour of a week"
