"""From a predict body to checked input: the first thing that happens to a call's values.

The server builds one :class:`InputDecoder` a version, from its signature, and never imports numpy
to read a body.
"""

from __future__ import annotations

from mlserve_jupyter.api.csv_body import read_csv
from mlserve_jupyter.api.json_body import JsonBody
from mlserve_jupyter.api.layout import ExtraColumns, Layout
from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.errors import SignatureMismatch, UnsupportedMediaType

ACCEPTED = ("application/json", "text/csv")
"""The content types of a predict body."""


class InputDecoder:
    """Decodes and checks the predict bodies of one version.

    Parameters
    ----------
    spec
        What the version takes.
    extra_columns
        Whether columns that the signature does not know are refused or dropped.
    allow_empty
        Whether a body without rows is fine.
    """

    def __init__(
        self,
        spec: InputSpec,
        extra_columns: ExtraColumns = "refuse",
        *,
        allow_empty: bool = False,
    ) -> None:
        self._layout = Layout(spec, extra_columns)
        self._json = JsonBody(self._layout)
        self._allow_empty = allow_empty

    def decode(self, body: bytes, content_type: str) -> InputBatch:
        """Decode one body.

        Parameters
        ----------
        body
            As it came.
        content_type
            The header's value, with its parameters. An empty one means JSON.

        Raises
        ------
        InvalidBody
            When it cannot be read as what the content type says.
        SignatureMismatch
            When something in it does not fit the version's signature.
        UnsupportedMediaType
            When the content type is none that is read here.
        """
        if content_type in ("application/json", ""):
            rows = self._json.rows(body)
        else:
            media_type, parameters = _parse_content_type(content_type)
            if media_type == "application/json":
                rows = self._json.rows(body)
            elif media_type == "text/csv":
                has_header = parameters.get("header", "present") != "absent"
                rows = read_csv(body, self._layout, has_header=has_header)
            else:
                raise UnsupportedMediaType(
                    f"The content type {content_type!r} is not read here. Send "
                    f"{' or '.join(ACCEPTED)}, such as curl -H 'Content-Type: application/json'.",
                    accepted=list(ACCEPTED),
                )
        if not rows and not self._allow_empty:
            raise SignatureMismatch(
                "The body has no rows; send at least one.",
                row=None,
                column=None,
                expected="at least one row",
                got="no rows",
            )
        return self._layout.batch(rows)


def _parse_content_type(content_type: str) -> tuple[str, dict[str, str]]:
    media_type, *rest = content_type.split(";")
    parameters: dict[str, str] = {}
    for parameter in rest:
        key, _, value = parameter.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"').lower()
    charset = parameters.get("charset", "utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(
            f"The charset {charset!r} is not read here; send UTF-8.",
            accepted=[f"{accepted}; charset=utf-8" for accepted in ACCEPTED],
        )
    return media_type.strip().lower(), parameters
