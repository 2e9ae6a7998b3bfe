"""Writes a model to a file: the kernel's side of an artifact, streamed and hashed on the way."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlserve_jupyter.artifacts.loading import TRUSTED_SKOPS_TYPES, sha256_of
from mlserve_jupyter.artifacts.references import (
    PICKLING_ERRORS,
    References,
    references_of,
    travelling_by_value,
)
from mlserve_jupyter.errors import InvalidRequest, NotPicklable, StorageFull

if TYPE_CHECKING:
    from mlserve_jupyter.api.manifest import Format

_EXTENSIONS: dict[Format, str] = {"joblib": "joblib", "cloudpickle": "pkl", "skops": "skops"}


@dataclass(frozen=True)
class Packed:
    """A model that has been written to a file.

    Attributes
    ----------
    path
        The file, ``model.<ext>``.
    format
        How it was written.
    size_bytes, sha256
        Of the file; ``sha256`` is hex.
    modules
        Top-level modules that are imported when it is loaded.
    by_value
        Names of the classes, functions and modules that travel inside it.
    """

    path: Path
    format: Format
    size_bytes: int
    sha256: str
    modules: tuple[str, ...]
    by_value: tuple[str, ...]


def pack(obj: Any, folder: Path, format: Format | Literal["auto"] = "auto") -> Packed:
    """Write ``obj`` (a user's model, hence ``Any``) to ``folder/model.<ext>``.

    Memory stays flat: arrays go to the file as they are, in pieces.

    Parameters
    ----------
    obj
        The model.
    folder
        An existing folder.
    format
        ``auto`` takes ``cloudpickle`` where something that exists only in this kernel has to travel
        inside the artifact, else ``joblib``, uncompressed so that arrays can be memory-mapped.

    Raises
    ------
    NotPicklable
        Naming the part that cannot be written.
    StorageFull
        The folder's disk is full.
    InvalidRequest
        The format is unknown, or cannot hold this model.
    """
    if format != "auto" and format not in _EXTENSIONS:
        raise InvalidRequest(
            f"{format!r} is not a format: use auto, {', '.join(_EXTENSIONS)}.", format=format
        )
    try:
        references = references_of(obj)
    except PICKLING_ERRORS as error:
        raise _not_picklable(obj, error) from error
    if format != "auto":
        return _write(obj, folder, format, references)
    if references.by_value:
        return _write(obj, folder, "cloudpickle", references)
    try:
        return _write(obj, folder, "joblib", references)
    except NotPicklable:
        # The scan has shown that cloudpickle can write it; it knows more types than pickle does.
        return _write(obj, folder, "cloudpickle", references)


def _write(obj: Any, folder: Path, format: Format, references: References) -> Packed:
    path = folder / f"model.{_EXTENSIONS[format]}"
    write: Callable[[Any, Path, References], str] = {
        "joblib": _write_joblib,
        "cloudpickle": _write_cloudpickle,
        "skops": _write_skops,
    }[format]
    try:
        sha256 = write(obj, path, references)
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                f"No space is left in {folder} to write the model: free some, or set TMPDIR to a "
                "folder on another disk and restart the kernel.",
                path=str(folder),
            ) from error
        raise
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    # The module that reads the format is needed as well as the model's own.
    return Packed(
        path=path,
        format=format,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        modules=tuple(sorted({*references.modules, format})),
        by_value=references.by_value,
    )


def _write_joblib(obj: Any, path: Path, references: References) -> str:
    if references.by_value:
        raise InvalidRequest(
            f"joblib cannot hold {_listed(references.by_value)}, which exists only in this kernel: "
            "use --format cloudpickle, or leave --format out."
        )
    import joblib

    with path.open("wb") as file:
        sink = _HashingSink(file)
        try:
            joblib.dump(obj, sink, protocol=5)
        except PICKLING_ERRORS as error:
            raise _not_picklable(obj, error) from error
    return sink.sha256


def _write_cloudpickle(obj: Any, path: Path, references: References) -> str:
    import cloudpickle

    with path.open("wb") as file, travelling_by_value(references.local_modules):
        sink = _HashingSink(file)
        try:
            cloudpickle.dump(obj, sink, protocol=5)
        except PICKLING_ERRORS as error:
            raise _not_picklable(obj, error) from error
    return sink.sha256


def _write_skops(obj: Any, path: Path, references: References) -> str:
    try:
        from skops import io as skops_io
    except ImportError as error:
        raise InvalidRequest(
            "The format skops needs the package skops in this kernel: run `%pip install skops` and "
            "deploy again."
        ) from error
    if references.by_value:
        raise InvalidRequest(
            f"skops cannot hold {_listed(references.by_value)}, which exists only in this kernel: "
            "use --format cloudpickle, or leave --format out."
        )
    try:
        skops_io.dump(obj, path)
    except (*PICKLING_ERRORS, NotImplementedError) as error:
        raise NotPicklable(
            f"skops cannot write this model ({error}): leave --format out."
        ) from error
    unknown = sorted(set(skops_io.get_untrusted_types(file=path)) - set(TRUSTED_SKOPS_TYPES))
    if unknown:
        raise InvalidRequest(
            f"A skops artifact with {_listed(unknown)} would not be trusted when it is loaded: "
            "leave --format out (an administrator approves what a server may not unpickle)."
        )
    return sha256_of(path)


class _HashingSink:
    """A file that is hashed while it is written."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return int(self._file.write(data))

    def tell(self) -> int:
        """Give the position, by which joblib aligns arrays for memory-mapping."""
        return int(self._file.tell())

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _not_picklable(obj: Any, error: BaseException) -> NotPicklable:
    from mlserve_jupyter.artifacts.unpicklable import where_unpicklable

    name = type(obj).__name__
    return NotPicklable(
        f"This {name} cannot be written to a file because of {where_unpicklable(obj)}. Leave that "
        "part out of the model, or make it when it is needed (see `__getstate__`), and deploy "
        "again.",
        reason=str(error),
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
