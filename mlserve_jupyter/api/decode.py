"""From a predict body to checked input: the first thing that happens to a call's values.

There is one :class:`InputDecoder` a version, made from its signature. numpy and pyarrow are
imported when the first body of columns comes, and only then.
"""

from __future__ import annotations

from mlserve_jupyter.api.arrow_body import ARROW_STREAM, PARQUET, read_table
from mlserve_jupyter.api.arrow_floats import batch_of_floats, read_float_columns
from mlserve_jupyter.api.csv_body import read_csv
from mlserve_jupyter.api.json_body import JsonBody
from mlserve_jupyter.api.layout import ExtraColumns, Layout
from mlserve_jupyter.api.packed import pack_batch
from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.errors import SignatureMismatch, UnsupportedMediaType

ACCEPTED = ("application/json", "text/csv", ARROW_STREAM, PARQUET)
"""The content types of a predict body."""

COLUMNAR = frozenset({ARROW_STREAM, PARQUET})
"""Those whose bodies are columns; all but the plainest are read by a decoder process only."""

MAX_DECODED_BYTES = 512 * 2**20
"""What a body of columns may take in memory, where nothing else was said."""


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
    max_decoded_bytes
        What a body of columns may take in memory once it is decompressed.
    """

    def __init__(
        self,
        spec: InputSpec,
        extra_columns: ExtraColumns = "refuse",
        *,
        allow_empty: bool = False,
        max_decoded_bytes: int = MAX_DECODED_BYTES,
    ) -> None:
        self._layout = Layout(spec, extra_columns)
        self._json = JsonBody(self._layout)
        self._allow_empty = allow_empty
        self._max_decoded_bytes = max_decoded_bytes

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
            batch = self._layout.batch(self._json.rows(body))
        else:
            batch = self._decode_as(body, *_parse_content_type(content_type), content_type)
        return self._admitted(batch)

    def decode_packed(self, body: bytes, content_type: str) -> InputBatch:
        """Decode one body as :meth:`decode` does, with its numbers packed."""
        if media_type_of(content_type) in ("application/json", ""):
            return self._admitted(self._layout.packed_batch(self._json.rows(body)))
        return pack_batch(self.decode(body, content_type), self._layout.spec)

    def decode_at_speed(self, body: bytes, content_type: str) -> InputBatch | None:
        """Decode a body with its numbers packed; None where that would take its time.

        It does for anything unusual, for most of what does not fit, and where not all values are
        numbers of one dtype.

        Raises
        ------
        SignatureMismatch
            When a column is not known, or is missing.
        """
        if not self._layout.is_uniform:
            return None
        if media_type_of(content_type) == ARROW_STREAM:
            found = read_float_columns(body)
            return None if found is None else batch_of_floats(found, self._layout)
        rows = self._json.rows_at_speed(body)
        return self._layout.packed_batch(rows) if rows else None

    def _admitted(self, batch: InputBatch) -> InputBatch:
        if not batch.n_rows and not self._allow_empty:
            raise SignatureMismatch(
                "The body has no rows; send at least one.",
                row=None,
                column=None,
                expected="at least one row",
                got="no rows",
            )
        return batch

    def _decode_as(
        self, body: bytes, media_type: str, parameters: dict[str, str], content_type: str
    ) -> InputBatch:
        if media_type == "application/json":
            return self._layout.batch(self._json.rows(body))
        if media_type == "text/csv":
            has_header = parameters.get("header", "present") != "absent"
            return self._layout.batch(read_csv(body, self._layout, has_header=has_header))
        if media_type in COLUMNAR:
            table = read_table(body, media_type, self._max_decoded_bytes)
            from mlserve_jupyter.api.arrow_columns import batch_of

            return batch_of(table, self._layout)
        raise UnsupportedMediaType(
            f"The content type {content_type!r} is not read here. Send "
            f"{', '.join(ACCEPTED[:-1])} or {ACCEPTED[-1]}, such as curl -H 'Content-Type: "
            "application/json'.",
            accepted=list(ACCEPTED),
        )


def media_type_of(content_type: str) -> str:
    """Return the media type of a header's value, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


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
