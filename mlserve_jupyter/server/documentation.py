"""What a route's method takes and answers: declared beside it, and read by ``GET openapi.json``.

What holds for every route is not declared: that credentials are asked for, that the body is
bounded, that the database may be away (see ``openapi/``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.errors import MLServeError

Method = TypeVar("Method", bound=Callable[..., Any])  # any handler method, whatever it takes

WireType = Any
"""A type that msgspec has a JSON Schema for; ``bytes`` and ``str`` are bodies as they are."""

Content = Mapping[str, WireType]
"""Wire types by content type."""

JSON = "application/json"

PATH_PARAMETERS: Mapping[str, WireType] = {
    "model": Annotated[
        str, msgspec.Meta(min_length=1, description="A model's name, its id, or `owner~name`.")
    ],
    "version": Annotated[
        int, msgspec.Meta(ge=1, le=999_999_999, description="A version's number.")
    ],
    "sha256": Annotated[
        str, msgspec.Meta(min_length=1, description="An artifact's sha256, in hex.")
    ],
    "user": Annotated[str, msgspec.Meta(min_length=1, description="A user's id.")],
    "key": Annotated[str, msgspec.Meta(min_length=1, description="An API key's id.")],
    "request_id": Annotated[
        str, msgspec.Meta(min_length=1, description="The `request_id` of a call's answer.")
    ],
    "invitation": Annotated[str, msgspec.Meta(min_length=1, description="An invitation's id.")],
}
"""By the name that handlers give them; each group of a route's pattern is one of these."""


Time = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="A time as of RFC 3339, a date, or how long ago it was, such as `90min` or "
        "`1d`; in UTC where it has no offset.",
    ),
]
"""A point in time in a query."""


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of lists."""

    limit: Annotated[
        int,
        msgspec.Meta(ge=1, le=999_999_999, description="Items on a page; 500 at most are sent."),
    ] = 50
    cursor: (
        Annotated[
            str, msgspec.Meta(description="`next_cursor` of the answer with the page before.")
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a deploy, in this order."""

    manifest: Manifest
    artifact: bytes


class SecurityScheme(msgspec.Struct, frozen=True, omit_defaults=True):
    """A way to show who one is, in OpenAPI's words.

    Attributes
    ----------
    type, scheme
        ``http`` and its scheme, or ``apiKey``.
    where, name
        Of an ``apiKey``: ``header``, and the header's name.
    """

    type: str
    description: str
    scheme: str = ""
    where: str = msgspec.field(default="", name="in")
    name: str = ""


SecuritySchemes = tuple[tuple[str, SecurityScheme], ...]
"""By name."""


@dataclass(frozen=True)
class Documentation:
    """What a method takes and answers.

    Attributes
    ----------
    summary
        What it does, in a few words.
    description
        The method's docstring.
    body
        The request's body, by content type; empty where it takes none.
    is_body_required
        Whether it must be there.
    answers
        The body of each status of success, by content type; empty where there is none.
    errors
        What it raises beyond what every route may; a class stands for its subclasses, too.
    query
        A struct whose fields are the query arguments; None where it takes none.
    """

    summary: str
    description: str = ""
    body: Content = field(default_factory=dict)
    is_body_required: bool = True
    answers: Mapping[int, Content] = field(default_factory=dict)
    errors: tuple[type[MLServeError], ...] = ()
    query: type[msgspec.Struct] | None = None


def documented(
    *,
    summary: str,
    answers: Mapping[int, WireType | Content | None],
    body: WireType | Content | None = None,
    is_body_required: bool = True,
    errors: Iterable[type[MLServeError]] = (),
    query: type[msgspec.Struct] | None = None,
) -> Callable[[Method], Method]:
    """Declare what a method takes and answers.

    Parameters
    ----------
    summary
        What it does, in a few words.
    answers
        By status, what comes back where it succeeds: a wire type (JSON), wire types by content
        type, or None for no body.
    body
        What is sent: in the same forms.
    is_body_required
        Whether it must be there, where there is one.
    errors
        What it raises beyond what every route may; a class stands for its subclasses, too.
    query
        A struct whose fields are the query arguments.
    """

    def decorate(method: Method) -> Method:
        vars(method)["__mlserve_documentation__"] = Documentation(
            summary=summary,
            description=method.__doc__ or "",
            body=_by_content_type(body),
            is_body_required=is_body_required,
            answers={status: _by_content_type(value) for status, value in answers.items()},
            errors=tuple(errors),
            query=query,
        )
        return method

    return decorate


def documentation_of(method: Any) -> Documentation | None:
    """Return what was declared for a handler's method (of any signature, hence ``Any``)."""
    found = getattr(method, "__mlserve_documentation__", None)
    return found if isinstance(found, Documentation) else None


def _by_content_type(value: WireType | Content | None) -> Content:
    if value is None:
        return {}
    return value if isinstance(value, Mapping) else {JSON: value}
