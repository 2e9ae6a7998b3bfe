"""A deploy's body: a manifest and an artifact, streamed to disk as they come."""

from __future__ import annotations

import asyncio

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.errors import (
    InvalidBody,
    InvalidRequest,
    MLServeError,
    StorageUnavailable,
    TooLarge,
    UnsupportedMediaType,
)
from mlserve_jupyter.storage.blobs import EXTENSIONS, ArtifactStore
from mlserve_jupyter.storage.staging import StagedArtifact

WRITE_BYTES = 2**20
MAX_MANIFEST_BYTES = 64 * 2**20


class ArtifactUpload:
    """Receives ``multipart/form-data`` with the parts ``manifest`` and ``artifact``, in this order.

    What is wrong with the body is remembered and raised by :meth:`finish`, so that the sender has
    sent everything and reads the answer.

    Parameters
    ----------
    store
        Where the artifact is staged.
    content_type
        The request's.
    max_artifact_bytes
        The limit of the artifact itself.

    Raises
    ------
    UnsupportedMediaType
        If the content type is another, or lacks its boundary.
    """

    def __init__(self, store: ArtifactStore, content_type: str, max_artifact_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise UnsupportedMediaType(
                "A deploy is multipart/form-data with the parts 'manifest' and 'artifact', not "
                f"{content_type[:80]!r}."
            )
        self._store = store
        self._max_artifact_bytes = max_artifact_bytes
        self._manifest_json = bytearray()
        self._manifest: Manifest | None = None
        self._staged: StagedArtifact | None = None
        self._pending = bytearray()
        self._artifact_bytes = 0
        self._artifact_ended = False
        self._error: MLServeError | None = None
        self._writing: asyncio.Future[None] | None = None
        self._is_discarded = False
        self._is_handed_over = False
        self._header_name = b""
        self._header_value = b""
        self._part = ""
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
            },
        )

    async def write(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        if self._error is not None:
            return
        try:
            self._parser.write(chunk)
            if len(self._pending) >= WRITE_BYTES:
                await self._write_pending()
        except MLServeError as error:
            self._fail(error)
        except MultipartParseError as error:
            self._fail(InvalidBody(f"The body is not multipart/form-data: {error}."))

    async def finish(self) -> tuple[Manifest, StagedArtifact]:
        """Return what was received, once the body has ended, to one who will discard it.

        Raises
        ------
        MLServeError
            Whatever was wrong with it, or its sender is gone.
        """
        if self._error is not None:
            raise self._error
        if self._manifest is None or self._staged is None or not self._artifact_ended:
            raise InvalidRequest(
                "The upload is not complete: it needs the parts 'manifest' and 'artifact'."
            )
        await self._write_pending()
        if self._is_discarded:
            raise StorageUnavailable("The upload was given up by its sender: deploy again.")
        self._is_handed_over = True
        return self._manifest, self._staged

    def abandon(self) -> None:
        """Discard what is still coming in; what was handed over stays with the deploy."""
        if not self._is_handed_over:
            self.discard()

    def discard(self) -> None:
        """Remove the staged artifact unless it was published."""
        self._is_discarded = True
        if self._staged is not None and (self._writing is None or self._writing.done()):
            self._staged.discard()

    def _fail(self, error: MLServeError) -> None:
        self._error = error
        self._pending.clear()
        if self._staged is not None:
            self._staged.discard()

    async def _write_pending(self) -> None:
        if self._staged is None or not self._pending:
            return
        piece, self._pending = self._pending, bytearray()
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._staged.write, bytes(piece))
        await self._writing
        if self._is_discarded:
            self._staged.discard()

    def _on_part_begin(self) -> None:
        self._part = ""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._begin(options.get(b"name", b"").decode("utf-8", "replace"))
        self._header_name = self._header_value = b""

    def _begin(self, name: str) -> None:
        if name == "manifest" and self._manifest is None and not self._manifest_json:
            self._part = name
        elif name == "artifact" and self._manifest is not None and self._staged is None:
            self._part = name
            self._staged = self._store.stage(EXTENSIONS[self._manifest.format])
        else:
            raise InvalidRequest(
                f"The part {name[:40]!r} is not expected here: send 'manifest' once, then "
                "'artifact' once."
            )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "manifest":
            self._manifest_json += data[start:end]
            if len(self._manifest_json) > MAX_MANIFEST_BYTES:
                raise TooLarge(
                    f"The manifest is over {MAX_MANIFEST_BYTES} bytes. Deploy with a smaller "
                    "sample."
                )
        elif self._part == "artifact":
            self._artifact_bytes += end - start
            if self._artifact_bytes > self._max_artifact_bytes:
                raise TooLarge(
                    f"The artifact is over max_artifact_bytes ({self._max_artifact_bytes}).",
                    limit=self._max_artifact_bytes,
                )
            self._pending += data[start:end]

    def _on_part_end(self) -> None:
        if self._part == "manifest":
            try:
                self._manifest = msgspec.json.decode(self._manifest_json, type=Manifest)
            except msgspec.ValidationError as error:
                raise InvalidBody(f"The manifest does not fit: {error}.") from None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InvalidBody(f"The manifest is not JSON: {error}.") from None
        elif self._part == "artifact":
            self._artifact_ended = True
