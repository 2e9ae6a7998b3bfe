"""The names that somebody may have meant who gave one that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from os.path import commonprefix

_MAX_COMPARED = 200
_MAX_CHARS = 80


def nearest_names(name: str, names: Iterable[str], n: int = 1) -> list[str]:
    """Return the names most like one, best first; upper and lower case make no difference.

    Comparing takes up to 0.1 ms a name, in the event loop: of many, only those that begin most like
    it are compared.
    """
    wanted = name[:_MAX_CHARS].casefold()
    by_folded = {each.casefold(): each for each in names if len(each) <= _MAX_CHARS}
    if wanted in by_folded:
        return [by_folded[wanted]]
    compared = sorted(by_folded, key=lambda other: -len(commonprefix([wanted, other])))
    return [by_folded[each] for each in get_close_matches(wanted, compared[:_MAX_COMPARED], n=n)]
