"""What a request's query says, in the types that a route takes."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import msgspec
from tornado.web import RequestHandler

from mlserve_jupyter.api.moments import moment
from mlserve_jupyter.errors import InvalidRequest, InvalidUsage
from mlserve_jupyter.server.documentation import Time, documentation_of
from mlserve_jupyter.server.misfits import misfit, unknown_name

if TYPE_CHECKING:
    _Host = RequestHandler
else:
    _Host = object

Query = TypeVar("Query", bound=msgspec.Struct)

_HOST_ARGUMENTS = frozenset({"token", "_xsrf", "no_track_activity", "_"})
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

    def check_query(self) -> None:
        """Refuse a query argument that the route does not declare.

        JupyterLab and jQuery put the time into the query, so that no cache answers: a number alone
        (``?1795471522639``), or as ``_``.

        Raises
        ------
        InvalidRequest
            Naming it, and the nearest that is declared.
        """
        if not self.request.query_arguments:
            return
        declared = documentation_of(getattr(type(self), (self.request.method or "GET").lower()))
        kind = None if declared is None else declared.query
        names = () if kind is None else tuple(each.name for each in msgspec.structs.fields(kind))
        for name in self.request.query_arguments:
            if name not in names and name not in _HOST_ARGUMENTS and not name.isdecimal():
                raise InvalidRequest(unknown_name("This route has no argument", name, names))

    def decode_query(self, kind: type[Query]) -> Query:
        """Decode the query arguments into a wire type, which has all that the route takes.

        Raises
        ------
        InvalidRequest
            Naming the argument that does not fit, and what would.
        """
        given: dict[str, str | datetime] = {}
        for field in msgspec.structs.fields(kind):
            if field.name in self.request.query_arguments:
                text = self.get_query_argument(field.name)
                is_time = field.type in (Time, Time | None)
                given[field.name] = _time(field.name, text) if is_time else text
        try:
            return msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            said = misfit(kind, error, given)
            raise InvalidRequest(said or f"The query arguments do not fit: {error}.") from None

    @property
    def page_limit(self) -> int:
        """How many items the caller wants on a page."""
        return min(self.integer_argument("limit", 50) or 50, MAX_PAGE)


def _time(name: str, text: str) -> datetime:
    """Read a time in any of the forms that people write; naive ones are in UTC."""
    try:
        try:
            # Of RFC 3339, this knows more than the standard library of Python 3.10.
            return moment(msgspec.convert(text, datetime) if ":" in text else text)
        except msgspec.ValidationError:
            return moment(text)
    except InvalidUsage:
        raise InvalidRequest(
            f"{name!r} must be a time, not {text[:40]!r}: such as 2026-05-01T12:00:00Z, "
            "2026-05-01, or how long ago it was (90min, 12h, 1d)."
        ) from None
