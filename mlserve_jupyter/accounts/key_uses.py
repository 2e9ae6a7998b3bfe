"""When keys were last used, gathered in memory and written now and then."""

from __future__ import annotations

WRITE_INTERVAL_S = 60.0
"""The last use of a key is written no more often than this."""


class KeyUses:
    """The uses that this process has seen and not yet written. Times are as of ``time.time()``."""

    def __init__(self) -> None:
        self._used_at_s: dict[str, float] = {}
        self._written_at_s: dict[str, float] = {}

    def note(self, key_id: str, now_s: float) -> None:
        """Take note of a use of the key with this primary key."""
        self._used_at_s[key_id] = now_s

    def take(self, now_s: float, *, all_of_them: bool = False) -> dict[str, float]:
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
        due = {
            key: used_at_s
            for key, used_at_s in self._used_at_s.items()
            if all_of_them or key not in recent
        }
        for key in due:
            del self._used_at_s[key]
        self._written_at_s = {**recent, **dict.fromkeys(due, now_s)}
        return due

    def give_back(self, uses: dict[str, float]) -> None:
        """Take uses back that could not be written."""
        for key, used_at_s in uses.items():
            self._used_at_s.setdefault(key, used_at_s)
            self._written_at_s.pop(key, None)
