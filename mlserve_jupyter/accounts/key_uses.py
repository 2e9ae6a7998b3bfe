"""When keys were last used and how often, gathered in memory and written now and then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

WRITE_INTERVAL_S = 60.0
"""The uses of a key are written no more often than this."""

HOUR_S = 3600


@dataclass
class KeyUse:
    """The uses of one key that are not written yet.

    Attributes
    ----------
    last_at_s
        Of the last one.
    n_by_hour
        How many there were, by the hour: ``time.time() // HOUR_S``.
    """

    last_at_s: float
    n_by_hour: Counter[float] = field(default_factory=Counter)


class KeyUses:
    """The uses that this process has seen and not yet written."""

    def __init__(self) -> None:
        self._unwritten: dict[str, KeyUse] = {}
        self._written_at_s: dict[str, float] = {}

    def note(self, key_id: str, now_s: float) -> None:
        """Take note of a use of the key with this primary key."""
        use = self._unwritten.get(key_id)
        if use is None:
            use = self._unwritten[key_id] = KeyUse(now_s)
        use.last_at_s = now_s
        use.n_by_hour[now_s // HOUR_S] += 1

    def take(self, now_s: float, *, all_of_them: bool = False) -> dict[str, KeyUse]:
        """Return the uses that it is time to write, each of them once, by primary key.

        Parameters
        ----------
        all_of_them
            Whether it is time for all, since nothing will be written later.
        """
        recent = {
            key: at_s
            for key, at_s in self._written_at_s.items()
            if at_s <= now_s < at_s + WRITE_INTERVAL_S
        }
        due = {key: use for key, use in self._unwritten.items() if all_of_them or key not in recent}
        for key in due:
            del self._unwritten[key]
        self._written_at_s = {**recent, **dict.fromkeys(due, now_s)}
        return due

    def give_back(self, uses: Mapping[str, KeyUse]) -> None:
        """Take uses back that could not be written."""
        for key, use in uses.items():
            newer = self._unwritten.setdefault(key, use)
            if newer is not use:
                newer.n_by_hour.update(use.n_by_hour)
            self._written_at_s.pop(key, None)
