"""``%mlserve dashboard [NAME]``: what the models do, refreshed by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage

if TYPE_CHECKING:
    from mlserve_jupyter.widgets.dashboard import Dashboard

USAGE = Usage(
    "dashboard",
    "Show requests, errors and latency, refreshed by itself.",
    (
        Argument("[NAME]", "The model's name; all of your own without it.", completes="models"),
        Argument("--version", "Only the calls of this version.", "integer", completes="versions"),
        Argument(
            "--range",
            "How far back: 1h without it; as well 15min, 6h, 24h, 7d, 30d or 90d.",
            choices=("15min", "1h", "6h", "24h", "7d", "30d", "90d"),
            value="RANGE",
        ),
        Argument(
            "--every",
            "Seconds between two refreshes: 5 of the notebook's own server, 15 of others.",
            "integer",
            value="S",
        ),
        Argument("--static", "A picture that does not refresh.", kind="flag"),
        TARGET,
    ),
)

_OWN_EVERY_S, _OTHER_EVERY_S, _MIN_EVERY_S = 5.0, 15.0, 1.0


def dashboard(
    name: str | None = None,
    *,
    version: int | None = None,
    range: str = "1h",  # noqa: A002
    every: float | None = None,
    static: bool | None = None,
    to: str | None = None,
) -> Dashboard:
    """Show what models do: requests, errors, latency and the cache, refreshed by itself.

    Parameters
    ----------
    name
        The model's name; None for all of one's own.
    version
        Only the calls of this version.
    range
        How far back: ``15min``, ``1h``, ``6h``, ``24h``, ``7d``, ``30d`` or ``90d``.
    every
        Seconds between two refreshes; None for 5 of the notebook's own server and 15 of others,
        which count the requests of each user.
    static
        Whether it is a picture that does not refresh; None makes it one where nobody looks at the
        notebook, as where a program runs it.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Dashboard
        A notebook shows it; ``pause()``, ``resume()``, ``refresh()`` and ``close()`` do what its
        buttons do.

    Raises
    ------
    RequestFailed
        There is no such model or version.
    ServerNotFound
        No server answers.
    """
    from mlserve_jupyter.widgets.dashboard import Dashboard, somebody_looks
    from mlserve_jupyter.widgets.page import RANGES, View

    ranges = {words.replace(" ", ""): words for words in RANGES}
    if range.replace(" ", "") not in ranges:
        raise InvalidRequest(f"range is one of {', '.join(ranges)}, not {range!r}.")
    if every is None:
        every = _OWN_EVERY_S if connect(to).connection.path else _OTHER_EVERY_S
    if every < _MIN_EVERY_S:
        raise InvalidRequest(f"every must be {_MIN_EVERY_S:g} s or more, not {every:g}.")
    if version is not None and name is None:
        raise InvalidRequest("version goes with the name of a model: give that as well.")
    is_live = somebody_looks() if static is None else not static
    view = View(name, version, ranges[range.replace(" ", "")])
    return Dashboard(partial(connect, to), view, every_s=every, is_live=is_live)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Dashboard:
    """Run the magic."""
    return dashboard(**arguments)
