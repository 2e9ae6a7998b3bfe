"""The error tree: what can go wrong, each with a stable code and a next step.

Nothing here knows HTTP; ``server/errors.py`` maps the classes to statuses in one table.

::

    MLServeError
    ├── InvalidRequest            the request itself is malformed
    │   ├── InvalidName           a model name that is not a name
    │   └── InvalidBody           a body that cannot be read
    ├── Unauthenticated           no credential, or a bad one
    ├── PermissionDenied          known, and not allowed
    ├── NotFound
    │   ├── ModelNotFound
    │   └── VersionNotFound
    ├── Conflict                  the state of the thing forbids it
    ├── TooLarge                  over a stated limit
    ├── UnsupportedMediaType
    ├── DoesNotFit                well-formed, and not what is taken
    │   ├── SignatureMismatch     a value, a column or a shape
    │   ├── InputRejected         the model itself refused the input
    │   ├── PasswordRejected      one that is too short, too long or too well known
    │   ├── EmailRejected         what is no address
    │   └── LabelRejected         what can never be scored
    ├── DeployRefused             an artifact that cannot be served
    │   ├── ArtifactRejected      its bytes, its size or its format
    │   ├── ArtifactCorrupt       its bytes are not those that were deployed
    │   ├── EnvironmentUnusable   the interpreter or a module is missing
    │   └── VerificationFailed    it answers otherwise than the notebook
    ├── ModelFailed               the model raised something unexpected
    ├── TooManyRequests           over a limit that will have room again
    │   ├── QuotaExceeded         of requests a minute
    │   └── TooManyAttempts       of failures to sign in, or of registrations
    ├── Unavailable               try again
    │   ├── Overloaded            a queue is full
    │   ├── WorkerDied            the process that ran the model is gone
    │   ├── WorkerOutOfMemory     it went over its memory limit
    │   └── StorageUnavailable    the database or the disk does not answer
    ├── DeadlineExceeded          the answer did not come in time
    ├── StorageFull               no space is left
    ├── SchemaUnknown             the database belongs to another release
    ├── SettingsInvalid           a setting that cannot be used
    └── NotebookError             raised only in the kernel
        ├── InvalidUsage          a magic's line that is not understood
        ├── ServerNotFound        no server, or none that answers
        ├── NotServable           an object without a method to serve
        ├── NotPicklable          a model that cannot be written to a file
        ├── SampleUnusable        a sample that does not fit the model
        └── RequestFailed         the server refused; carries its code
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlserve_jupyter.plain_text import plain


class MLServeError(Exception):
    """The root of all errors that this package raises on purpose.

    Parameters
    ----------
    message
        What happened, naming the thing, and what to do next.
    details
        Further facts for programs; JSON values only (the values are the caller's own data, hence
        ``Any``).
    """

    code: ClassVar[str] = "error"

    traceback_text: str | None = None
    """What a model raised in its worker, for the log only; never sent to a caller."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details

    def _render_traceback_(self) -> list[str]:
        """Show one readable line in a notebook instead of a traceback.

        IPython calls this hook on the exceptions that have it.
        """
        return [plain(f"{type(self).__name__}: {self.message}")]


class InvalidRequest(MLServeError):
    """The request itself is malformed."""

    code = "invalid_request"


class InvalidName(InvalidRequest):
    """A model name that is not a name."""

    code = "invalid_name"


class InvalidBody(InvalidRequest):
    """A body that cannot be read as what its content type says."""

    code = "invalid_body"


class Unauthenticated(MLServeError):
    """No credential came, or one that is not valid."""

    code = "unauthenticated"


class PermissionDenied(MLServeError):
    """The caller is known and is not allowed to do this."""

    code = "permission_denied"


class NotFound(MLServeError):
    """The thing does not exist, or is not the caller's to see."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No such model."""

    code = "model_not_found"


class VersionNotFound(NotFound):
    """The model has no such version, or none that answers."""

    code = "version_not_found"


class Conflict(MLServeError):
    """The state of the thing forbids what was asked."""

    code = "conflict"


class TooLarge(MLServeError):
    """Something is over a stated limit."""

    code = "too_large"


class UnsupportedMediaType(MLServeError):
    """A content type that this route does not read."""

    code = "unsupported_media_type"


class DoesNotFit(MLServeError):
    """Well-formed input that is not what the model takes."""

    code = "does_not_fit"


class SignatureMismatch(DoesNotFit):
    """A value, a column or a shape that the version's signature does not allow.

    ``details`` carries ``row`` (0-based, or None), ``column`` (name, or None), ``expected`` and
    ``got``.
    """

    code = "signature_mismatch"


class InputRejected(DoesNotFit):
    """The model itself raised a ``ValueError`` or ``TypeError`` on this input."""

    code = "input_rejected"


class PasswordRejected(DoesNotFit):
    """A password that will not do."""

    code = "password_rejected"


class EmailRejected(DoesNotFit):
    """An email that is no address."""

    code = "email_rejected"


class LabelRejected(DoesNotFit):
    """Labels that do not go with the answers of their call, and so can never be scored.

    ``details`` carries ``request_id``, ``expected``, ``got`` and, of one label, its ``row``.
    """

    code = "label_rejected"


class DeployRefused(MLServeError):
    """An artifact that cannot be served."""

    code = "deploy_refused"


class ArtifactRejected(DeployRefused):
    """The artifact's bytes, size or format are not acceptable."""

    code = "artifact_rejected"


class ArtifactCorrupt(DeployRefused):
    """The bytes on disk are not those that were deployed."""

    code = "artifact_corrupt"


class EnvironmentUnusable(DeployRefused):
    """The interpreter that the model needs, or a module in it, is missing."""

    code = "environment_unusable"


class VerificationFailed(DeployRefused):
    """A fresh worker answers otherwise than the notebook did."""

    code = "verification_failed"


class ModelFailed(MLServeError):
    """The model raised something unexpected on input that fits its signature."""

    code = "model_failed"


class TooManyRequests(MLServeError):
    """Over a limit that will have room again.

    Parameters
    ----------
    message
        What happened and what to do next.
    retry_after_s
        Seconds after which a retry makes sense.
    """

    code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class QuotaExceeded(TooManyRequests):
    """The caller's requests of this minute are used up."""

    code = "quota_exceeded"


class TooManyAttempts(TooManyRequests):
    """Too many failures to sign in, or too many registrations."""

    code = "too_many_attempts"


class Unavailable(MLServeError):
    """Not now; the same request may succeed later.

    Parameters
    ----------
    message
        What happened and what to do next.
    retry_after_s
        Seconds after which a retry makes sense.
    """

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """A queue is full."""

    code = "overloaded"


class WorkerDied(Unavailable):
    """The process that ran the model is gone; it has been replaced."""

    code = "worker_died"


class WorkerOutOfMemory(Unavailable):
    """The process that ran the model went over its memory limit; it has been replaced."""

    code = "worker_out_of_memory"


class StorageUnavailable(Unavailable):
    """The database or the disk does not answer.

    Parameters
    ----------
    message
        What happened and what to do next.
    reason
        Where the database is and what its driver says: part of ``str``, for logs and for who starts
        the server, and never sent to a caller.
    """

    code = "storage_unavailable"

    def __init__(self, message: str, *, reason: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason

    def __str__(self) -> str:
        """Return the message and its reason."""
        return f"{self.message} ({self.reason})" if self.reason else self.message


class DeadlineExceeded(MLServeError):
    """The answer did not come in time."""

    code = "deadline_exceeded"


class StorageFull(MLServeError):
    """No space is left where artifacts or the database live."""

    code = "storage_full"


class SchemaUnknown(MLServeError):
    """The database was made by another release, and must not be touched."""

    code = "schema_unknown"


class SettingsInvalid(MLServeError):
    """A setting that cannot be used."""

    code = "settings_invalid"


class NotebookError(MLServeError):
    """Raised only on the kernel's side."""

    code = "notebook_error"


class InvalidUsage(NotebookError):
    """The line behind a magic is not understood."""

    code = "invalid_usage"


class ServerNotFound(NotebookError):
    """No server was found, or the one that was found does not answer."""

    code = "server_not_found"


class NotServable(NotebookError):
    """An object without the method that should be served."""

    code = "not_servable"


class NotPicklable(NotebookError):
    """A model that cannot be written to a file."""

    code = "not_picklable"


class SampleUnusable(NotebookError):
    """A sample that does not fit the model."""

    code = "sample_unusable"


class RequestFailed(NotebookError):
    """The server answered with an error.

    Parameters
    ----------
    message
        The server's message.
    status
        The HTTP status.
    server_code
        The stable code of the server's error body, such as ``model_not_found``.
    request_id
        The id under which the server logged the request.
    """

    code = "request_failed"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        server_code: str,
        request_id: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.status = status
        self.server_code = server_code
        self.request_id = request_id
