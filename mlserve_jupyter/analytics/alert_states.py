"""When a value over its limit becomes an alert, and when that ends.

Two looks in a row must find the value over its limit before anybody is told, and three in a row
must find it at most nine tenths of the limit before the alert ends, so that a value that hovers
around its limit is one alert and not many.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlserve_jupyter.api.alerts import AlertState, Rule

FIRE_AFTER = 2
"""Looks in a row that find a value over its limit."""

END_AFTER = 3
"""Looks in a row that find it clearly below."""

RELEASE = 0.9
"""What is clearly below, as a share of the limit."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a look at one thing has found.

    Attributes
    ----------
    subject
        Which thing, in the database's words; title, in a reader's.
    value
        None where nothing can be said, such as of a model that nobody has called.
    model_id, user_id
        Of the model, where it is one; and who may see the alert besides administrators.
    """

    rule: Rule
    subject: str
    title: str
    value: float | None
    limit: float
    model_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Standing:
    """How an open alert stands: its state, and the looks in a row that say otherwise.

    Attributes
    ----------
    n_over, n_under
        Looks in a row that found the value over its limit, and clearly below it.
    """

    state: AlertState
    n_over: int = 0
    n_under: int = 0


def first_standing(value: float, limit: float) -> Standing | None:
    """Return how an alert begins, where one does."""
    return Standing("pending", n_over=1) if value > limit else None


def next_standing(standing: Standing, value: float, limit: float) -> Standing | None:
    """Return how an open alert stands after another look; None where it was none after all."""
    if value > limit:
        n_over = standing.n_over + 1
        fires = standing.state == "firing" or n_over >= FIRE_AFTER
        return Standing("firing" if fires else "pending", n_over=n_over)
    if standing.state == "pending":
        return None
    if value > RELEASE * limit:
        return Standing("firing")
    n_under = standing.n_under + 1
    return Standing("ended" if n_under >= END_AFTER else "firing", n_under=n_under)
