"""Wire types of the REST resources, named by verb: what requests bring and answers carry."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.api.log_policy import LogChanges, LogPolicy
from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.signature import Signature

Status = Literal["active", "deprecated", "archived"]
Visibility = Literal["private", "shared", "public"]
ListScope = Literal["own", "shared", "public", "all"]

MAX_SHARES = 200


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The one error body of all routes; ``details`` depends on the code, hence ``Any``."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str


class DescribeHealth(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the server lives, or can answer."""

    status: Literal["live", "ready"]


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What a deploy verified before the version was published.

    Attributes
    ----------
    verified
        False where the deploy asked for none (``--no-verify``).
    n_rows
        Rows of the sample that were compared, per method.
    methods
        Methods whose answers were compared.
    max_abs_difference
        The largest absolute difference of a number; 0.0 means equal bit for bit.
    not_deterministic
        Methods that gave other answers when the kernel called them twice; compared by shape only.
    row_by_row
        Methods that gave the same answers, bit for bit, to single rows of the sample as to all of
        it. Only calls of these may be answered together with others.
    load_ms, predict_ms
        What the fresh worker took.
    loaded_bytes
        Resident bytes of the loaded model, as measured.
    compiled
        What was compiled; None until that is known, and where the deploy asked for none.
    """

    verified: bool
    n_rows: int = 0
    methods: list[str] = []
    max_abs_difference: float = 0.0
    not_deterministic: list[str] = []
    row_by_row: list[str] = []
    load_ms: float = 0.0
    predict_ms: float = 0.0
    loaded_bytes: int = 0
    compiled: CompiledRecord | None = None


CacheRefusal = Literal["not_deterministic", "not_verified", "cheap"]


class DescribeCacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the result cache of the process that answers did for one method of a version.

    Attributes
    ----------
    used
        Whether calls ask it now.
    refusal
        Why they do not: ``not_deterministic`` and ``not_verified`` as the verification says,
        ``cheap`` where look-ups were measured to cost more than they save.
    n_hits, n_misses, n_bypassed
        Calls that were answered without the model, that were computed after a look-up, and that
        were computed without one.
    lookup_ms, compute_ms
        The medians of the latest measurements; None where there are none.
    """

    method: str
    used: bool
    refusal: CacheRefusal | None
    n_hits: int
    n_misses: int
    n_bypassed: int
    lookup_ms: float | None
    compute_ms: float | None


class DescribeVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model.

    Attributes
    ----------
    result_cache
        What the result cache did for the methods that were called; empty where it is off.
    """

    id: str
    model: str
    version: int
    status: Status
    format: str
    sha256: str
    size_bytes: int
    method: str
    methods: list[str]
    signature: Signature
    environment: Environment
    provenance: Provenance
    runtime: str
    extra_columns: str
    verification: Verification
    note: str
    created_at: datetime
    predict_path: str
    result_cache: list[DescribeCacheUse] = []


class DescribeModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model and where it answers.

    Attributes
    ----------
    default_version
        The version that answers a call that names none; None where all are archived.
    predict_path
        Path of the predict route on this server, with its ``base_url``.
    last_called_at
        Time of the last prediction that has reached the log, in UTC; None if there was none.
    n_predictions
        Calls in the log.
    visibility
        ``private`` to its owner, ``shared`` with named users, or ``public`` to all who are signed
        in.
    shared_with
        Names of users; empty for those who may not change the model.
    may_change
        Whether the caller may change it: its owner may, and administrators.
    logging
        What the prediction log keeps of its calls.
    keep_warm
        Whether the version that answers by default is kept in memory, called or not.
    """

    id: str
    name: str
    owner: str
    description: str
    created_at: datetime
    updated_at: datetime
    default_version: int | None
    n_versions: int
    predict_path: str
    last_called_at: datetime | None
    n_predictions: int
    visibility: Visibility = "private"
    shared_with: list[str] = []
    may_change: bool = True
    logging: LogPolicy = LogPolicy()
    keep_warm: bool = False


class ListModels(msgspec.Struct, frozen=True, kw_only=True):
    """A page of models."""

    items: list[DescribeModel]
    next_cursor: str | None = None


class ListVersions(msgspec.Struct, frozen=True, kw_only=True):
    """A page of versions, newest first."""

    items: list[DescribeVersion]
    next_cursor: str | None = None


class DescribeDeploy(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a deploy."""

    model: DescribeModel
    version: DescribeVersion
    timings_ms: dict[str, float]
    warnings: list[str]


class UpdateModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``PATCH models/{model}`` may change.

    Attributes
    ----------
    visibility
        Any but ``shared`` ends what the model was shared by.
    shared_with
        All the names of users with whom it is shared from now on, with ``"visibility": "shared"``.
    logging
        What changes of what the prediction log keeps of its calls; what is not given stays.
    keep_warm
        Whether the version that answers by default is kept in memory, called or not.
    """

    description: str | msgspec.UnsetType = msgspec.UNSET
    visibility: Visibility | msgspec.UnsetType = msgspec.UNSET
    shared_with: Annotated[list[str], msgspec.Meta(max_length=MAX_SHARES)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    logging: LogChanges | msgspec.UnsetType = msgspec.UNSET
    keep_warm: bool | msgspec.UnsetType = msgspec.UNSET


class UpdateVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``PATCH models/{model}/versions/{n}`` may change."""

    status: Status | msgspec.UnsetType = msgspec.UNSET
    note: str | msgspec.UnsetType = msgspec.UNSET


class DescribePrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One call in the prediction log.

    Attributes
    ----------
    inputs, outputs
        The request's body as it was decoded and the answer's ``predictions``, as JSON; null where
        they were over the log's size limit (``truncated`` is then true), the model's ``logging``
        leaves them out, or the call failed.
    status
        ``ok``, or the code of the error that the caller got.
    error
        For the owner's eyes: what the model raised, or null.
    labels
        What turned out to be true, one value a row, or null where nobody has said it.
    """

    request_id: str
    model: str
    version: int
    method: str
    principal: str
    created_at: datetime
    status: str
    cached: bool
    n_rows: int
    queue_ms: float
    load_ms: float
    predict_ms: float
    total_ms: float
    inputs: msgspec.Raw
    outputs: msgspec.Raw
    truncated: bool
    error: str | None = None
    labels: msgspec.Raw


class ListPredictions(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the prediction log, newest first.

    Attributes
    ----------
    lost
        Calls that were answered and never reached the log, over the whole life of this database:
        dropped because the buffer was full, or gone with a process that was killed.
    """

    items: list[DescribePrediction]
    next_cursor: str | None = None
    lost: int = 0
