"""``%mlserve keys list``: the keys that programs outside have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlserve_jupyter.api.keys import DescribeKey
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Usage
from mlserve_jupyter.magics.display import Display, ago, html_paragraph, html_table, text_table

USAGE = Usage("keys list", "List your keys.", (TARGET,))

_HEADER = ("name", "key", "scopes", "models", "rate limit", "expires", "last used")
_EMPTY = "You have no keys: make one with `%mlserve keys create NAME`."


@dataclass(frozen=True, repr=False)
class Keys(Display):
    """The caller's keys, newest first."""

    keys: tuple[DescribeKey, ...]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.keys)

    def __iter__(self) -> Iterator[DescribeKey]:
        """Go through them."""
        return iter(self.keys)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for key in self.keys:
            facts = dict(facts_of(key))
            shown = (facts[name] for name in ("key", "scopes", "models", "rate limit", "expires"))
            yield (key.name, *shown, ago(key.last_used_at))

    def _text(self) -> str:
        return text_table(_HEADER, self._rows()) if self.keys else _EMPTY

    def _html(self) -> str:
        return html_table(_HEADER, self._rows()) if self.keys else html_paragraph(_EMPTY)


def list(*, to: str | None = None) -> Keys:  # noqa: A001
    """List your keys, without those that were revoked.

    Parameters
    ----------
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Keys
        Can be iterated over; a notebook shows it as a table.

    Raises
    ------
    ServerNotFound
        No server answers.
    """
    return Keys(tuple(connect(to).keys()))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Keys:
    """Run the magic."""
    return list(**arguments)


def facts_of(key: DescribeKey) -> Iterator[tuple[str, str]]:
    """Give what is known of a key, in words."""
    yield "key", f"{key.prefix}_…"
    yield "scopes", ", ".join(key.scopes)
    yield "models", "all" if key.models is None else ", ".join(key.models)
    limits = {None: "your own", 0: "none"}
    yield "rate limit", limits.get(key.rate_limit, f"{key.rate_limit} a minute")
    yield "expires", _end(key.expires_at)


def _end(time: datetime | None) -> str:
    if time is None:
        return "never"
    shown = time.astimezone().strftime("%Y-%m-%d %H:%M")
    return f"{shown} (expired)" if time <= datetime.now(timezone.utc) else shown
