"""What a request's query says, in the types that a route takes."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

import msgspec
from tornado.web import RequestHandler

from mlserve_jupyter.errors import InvalidRequest

if TYPE_CHECKING:
    _Host = RequestHandler
else:
    _Host = object

Query = TypeVar("Query", bound=msgspec.Struct)

_HOST_ARGUMENTS = frozenset({"token", "_xsrf", "no_track_activity"})
MAX_PAGE = 500


class QueryArguments(_Host):
    """The part of a resource that reads the query."""

    def integer_argument(self, name: str, default: int | None, *, least: int = 1) -> int | None:
        """Return a query argument that must be an integer of at least ``least``.

        Raises
        ------
        InvalidRequest
            Naming the argument.
        """
        text = self.get_query_argument(name, None)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) < least:
            raise InvalidRequest(f"'{name}' must be an integer from {least} on, not {text[:40]!r}.")
        return int(text)

    def check_query_arguments(self, *names: str) -> None:
        """Refuse a query argument that this route does not know.

        Raises
        ------
        InvalidRequest
            Naming it, and the nearest that it does know.
        """
        for name in self.request.query_arguments:
            if name not in names and name not in _HOST_ARGUMENTS:
                near = get_close_matches(name, names, n=1)
                advice = f"Did you mean {near[0]!r}?" if near else f"It takes {', '.join(names)}."
                raise InvalidRequest(f"This route has no argument {name[:40]!r}. {advice}")

    def decode_query(self, kind: type[Query]) -> Query:
        """Decode the query arguments into a wire type; others than its own are left alone.

        Raises
        ------
        InvalidRequest
            Saying where they do not fit.
        """
        fields = msgspec.structs.fields(kind)
        given = {
            field.name: self.get_query_argument(field.name)
            for field in fields
            if field.name in self.request.query_arguments
        }
        try:
            query = msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The query arguments do not fit: {error}.") from None
        for name, text in given.items():  # msgspec would take seconds since 1970 for a time
            time = getattr(query, name)
            if isinstance(time, datetime) and (":" not in text or not _is_in_range(time)):
                raise InvalidRequest(f"'{name}' must be a time, not {text[:40]!r}.")
        return query

    @property
    def page_limit(self) -> int:
        """How many items the caller wants on a page."""
        return min(self.integer_argument("limit", 50) or 50, MAX_PAGE)


def _is_in_range(time: datetime) -> bool:
    """Whether a time is one in UTC, too: what has an offset may lie before the year 1 there."""
    try:
        time.astimezone(timezone.utc)
    except OverflowError:
        return False
    return True
