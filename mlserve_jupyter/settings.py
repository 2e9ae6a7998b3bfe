"""The settings of the platform: frozen, with units in their names.

Both hosts build one :class:`Settings`; the traits of the server extension carry the same names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from mlserve_jupyter.errors import InvalidName, SettingsInvalid

MIB = 2**20
GIB = 2**30

MAX_RETENTION_DAYS = 36_500
"""A hundred years; the time before which all is archived must be one that a date can tell."""

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_NO_FILE_SYSTEMS = (
    "artifacts_url is set, but the file systems that it needs are not installed: "
    "`pip install 'mlserve_jupyter[s3]'`."
)

FOLDER_PROTOCOLS = ("file", "local")
"""What an ``artifacts_url`` begins with that names a folder; they are the same to fsspec."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set.

    Attributes
    ----------
    data_dir
        Folder of the database, the artifacts and the secrets; mode 0700, never under the served
        notebook root.
    database_url
        SQLAlchemy URL; empty means ``mlserve.db`` in ``data_dir``.
    database_replica_url
        A PostgreSQL that follows that of ``database_url`` and answers reports; empty for none.
    database_pool_size, database_pool_overflow, database_pool_recycle_s
        Connections to PostgreSQL that a process keeps, how many more it may open for a while, and
        after how long one is made anew.
    database_connect_timeout_s, database_statement_timeout_s, database_lock_timeout_s
        What connecting to PostgreSQL, a statement, and its waiting for a lock may take.
    database_dead_after_s
        A connection to PostgreSQL whose other end cannot be reached for so long is given up.
    artifacts_url
        Where artifacts and archives lie: any URL that fsspec knows, such as ``s3://bucket/prefix``;
        empty for folders in ``data_dir``.
    artifacts_timeout_s, artifacts_cache_bytes
        How long a request to that store may go without an answer, and what the copies of artifacts
        in ``data_dir`` may take.
    owner
        Name of the platform user that the notebook's owner is, where Jupyter gives no name of its
        own (plain token or password authentication).
    registration
        Whether people may make accounts: ``open``, by ``invitation``, or ``closed``.
    allow_pickle
        Whether artifacts that can run code may be deployed, and from any interpreter: what the
        owner of a notebook may do anyway.
    max_artifact_bytes, max_body_bytes
        Limits of an uploaded artifact and of a predict body.
    max_answer_bytes
        What the predictions of one call may take as JSON.
    predict_timeout_s, load_timeout_s, verify_timeout_s
        Deadlines of a call, of loading a model, and of verifying a deploy.
    max_loaded_bytes, max_loaded_models
        A worker lets the least recently used models go above either; 0 models means no limit by
        count.
    worker_memory_bytes
        A worker that goes over this is killed and replaced; 0 means no limit.
    decoder_memory_bytes
        What a process that decodes large bodies, Arrow and Parquet may take; a body that needs more
        is refused. Arrow and Parquet may take a quarter of it once they are decompressed.
    workers_per_environment
        Worker processes of one Python environment.
    worker_start_method
        ``fork`` (workers share their libraries' memory and start in milliseconds), ``spawn`` (each
        starts an interpreter), or empty for what suits the platform: ``fork`` on Linux.
    worker_idle_s
        An environment without a call for so long gives its processes back.
    max_queue_requests, max_queue_rows, max_queue_bytes
        What may wait for one worker; more is answered with ``overloaded``.
    max_batch_rows
        Rows of the calls that a worker takes at once.
    result_cache, cache_ttl_s, cache_max_bytes
        ``auto`` asks the result cache where that pays, ``on`` wherever answers may be kept, ``off``
        never; how long an answer is kept, and what all may take in this process's memory.
    redis_url, redis_timeout_s
        A Redis behind the cache in memory, empty for none, and how long a call waits for it.
    quota_per_minute
        Requests a minute of an outside user or key for whom nothing else is set; 0 for no limit.
    trusted_proxies
        Networks of proxies whose ``X-Forwarded-For`` says who the client is.
    cors_origins
        Origins, such as ``https://app.example.org``, whose pages may call with a key or token.
    metrics_public
        Whether anybody may read the metrics, which name the models of all users.
    slow_request_s
        Requests that take longer are logged as warnings, with what took how long; 0 for none.
    alert_every_s
        How often what alerts watch is looked at.
    alert_p95_ms, alert_error_rate, alert_drift
        What a model may have before there is an alert, where it has no limit of its own: the p95
        of its calls, the share of them that fail, and the population stability index of its
        input; 0 for no alert.
    alert_disk_used, alert_key_use
        The share of a disk that may be used, and how many times the requests of its busiest hour
        of a week a key may make in an hour; 0 for no alert.
    alert_webhook_url, alert_webhook_secret
        Where alerts are sent, empty for nowhere, and what signs them; both may be secret.
    keep_warm_models
        How many of the versions that were called within a day are loaded at start, and are loaded
        again after a worker has ended; 0 for none.
    log_buffer_rows, log_buffer_bytes, log_flush_s, log_max_value_bytes
        The prediction log's buffer, how often it is written, and the size above which inputs and
        outputs are left out of a row.
    retention_days
        Predictions stay in the database for so long, at most ``MAX_RETENTION_DAYS``, and in
        archives after that; 0 for ever.
    catalog_poll_s
        How soon a change that another process made to the registry is seen.
    """

    data_dir: Path
    database_url: str = ""
    database_replica_url: str = ""
    database_pool_size: int = 20
    database_pool_overflow: int = 10
    database_pool_recycle_s: float = 3600.0
    database_connect_timeout_s: float = 3.0
    database_statement_timeout_s: float = 30.0
    database_lock_timeout_s: float = 10.0
    database_dead_after_s: float = 5.0
    artifacts_url: str = ""
    artifacts_timeout_s: float = 5.0
    artifacts_cache_bytes: int = 10 * GIB
    owner: str = "owner"
    registration: str = "closed"
    allow_pickle: bool = True
    max_artifact_bytes: int = 4 * GIB
    max_body_bytes: int = 64 * MIB
    max_answer_bytes: int = 256 * MIB
    predict_timeout_s: float = 30.0
    load_timeout_s: float = 120.0
    verify_timeout_s: float = 300.0
    max_loaded_bytes: int = 2 * GIB
    max_loaded_models: int = 0
    worker_memory_bytes: int = 8 * GIB
    decoder_memory_bytes: int = 2 * GIB
    workers_per_environment: int = 2
    worker_start_method: str = ""
    worker_idle_s: float = 900.0
    max_queue_requests: int = 1024
    max_queue_rows: int = 1_000_000
    max_queue_bytes: int = 256 * MIB
    max_batch_rows: int = 1024
    result_cache: str = "auto"
    cache_ttl_s: float = 3600.0
    cache_max_bytes: int = 64 * MIB
    redis_url: str = ""
    redis_timeout_s: float = 0.05
    quota_per_minute: int = 100
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    metrics_public: bool = False
    slow_request_s: float = 1.0
    alert_every_s: float = 60.0
    alert_p95_ms: float = 1000.0
    alert_error_rate: float = 0.05
    alert_drift: float = 0.25
    alert_disk_used: float = 0.8
    alert_key_use: float = 5.0
    alert_webhook_url: str = field(default="", repr=False)
    alert_webhook_secret: str = field(default="", repr=False)
    keep_warm_models: int = 8
    log_buffer_rows: int = 10_000
    log_buffer_bytes: int = 64 * MIB
    log_flush_s: float = 0.25
    log_max_value_bytes: int = 256 * 1024
    retention_days: int = 90
    catalog_poll_s: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the setting."""
        if not self.data_dir.is_absolute():
            raise SettingsInvalid(f"data_dir must be an absolute path, not {str(self.data_dir)!r}.")
        for name in (
            "database_pool_size",
            "database_pool_recycle_s",
            "database_connect_timeout_s",
            "database_statement_timeout_s",
            "database_lock_timeout_s",
            "database_dead_after_s",
            "artifacts_timeout_s",
            "artifacts_cache_bytes",
            "max_artifact_bytes",
            "max_body_bytes",
            "max_answer_bytes",
            "predict_timeout_s",
            "load_timeout_s",
            "verify_timeout_s",
            "max_loaded_bytes",
            "decoder_memory_bytes",
            "workers_per_environment",
            "worker_idle_s",
            "max_queue_requests",
            "max_queue_rows",
            "max_queue_bytes",
            "max_batch_rows",
            "cache_ttl_s",
            "cache_max_bytes",
            "redis_timeout_s",
            "alert_every_s",
            "log_buffer_rows",
            "log_buffer_bytes",
            "log_flush_s",
            "catalog_poll_s",
        ):
            if getattr(self, name) <= 0:
                raise SettingsInvalid(f"{name} must be positive, not {getattr(self, name)!r}.")
        for name in ("max_loaded_models", "worker_memory_bytes", "log_max_value_bytes"):
            if getattr(self, name) < 0:
                raise SettingsInvalid(f"{name} must not be negative; 0 means no limit.")
        if self.registration not in ("open", "invitation", "closed"):
            raise SettingsInvalid(
                f"registration must be 'open', 'invitation' or 'closed', not {self.registration!r}."
            )
        if self.worker_start_method not in ("", "fork", "spawn"):
            raise SettingsInvalid(
                f"worker_start_method must be 'fork', 'spawn' or empty, not "
                f"{self.worker_start_method!r}."
            )
        for name in (
            "alert_p95_ms",
            "alert_error_rate",
            "alert_drift",
            "alert_disk_used",
            "alert_key_use",
        ):
            if getattr(self, name) < 0:
                raise SettingsInvalid(f"{name} must not be negative; 0 means no alert.")
        for name in ("alert_error_rate", "alert_disk_used"):
            if getattr(self, name) > 1:
                raise SettingsInvalid(
                    f"{name} is a share, at most 1, not {getattr(self, name)!r}: 0.05 is 5 %."
                )
        if self.alert_webhook_url:
            check_webhook_url(self.alert_webhook_url)
        if self.slow_request_s < 0:
            raise SettingsInvalid("slow_request_s must not be negative; 0 means no warnings.")
        if self.retention_days < 0:
            raise SettingsInvalid("retention_days must not be negative; 0 means for ever.")
        if self.retention_days > MAX_RETENTION_DAYS:
            raise SettingsInvalid(
                f"retention_days must not be over {MAX_RETENTION_DAYS:,}, not "
                f"{self.retention_days:,}; 0 means for ever."
            )
        if self.database_pool_overflow < 0:
            raise SettingsInvalid("database_pool_overflow must not be negative; 0 means none.")
        if self.quota_per_minute < 0:
            raise SettingsInvalid("quota_per_minute must not be negative; 0 means no limit.")
        trusted_networks(self.trusted_proxies)
        for origin in self.cors_origins:
            check_origin(origin)
        if self.keep_warm_models < 0:
            raise SettingsInvalid("keep_warm_models must not be negative; 0 means none.")
        if self.result_cache not in ("auto", "on", "off"):
            raise SettingsInvalid(
                f"result_cache must be 'auto', 'on' or 'off', not {self.result_cache!r}."
            )
        if self.redis_url:
            check_redis_url(self.redis_url)
        if self.artifacts_url:
            check_artifacts_url(self.artifacts_url)
        check_name(self.owner)

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, with the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'mlserve.db'}"

    @property
    def artifacts_dir(self) -> Path:
        """Where artifacts lie: ``models/<user id>/<model name>/v<N>/``."""
        return self.data_dir / "models"


@lru_cache(maxsize=8)
def trusted_networks(networks: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return ``trusted_proxies`` as networks.

    Raises
    ------
    SettingsInvalid
        Naming what is no network.
    """
    try:
        return tuple(ip_network(network, strict=False) for network in networks)
    except ValueError as error:
        raise SettingsInvalid(
            f"trusted_proxies holds addresses and networks such as 10.0.0.0/8: {error}."
        ) from None


def check_origin(origin: str) -> None:
    """Refuse what no browser sends as an origin.

    Raises
    ------
    SettingsInvalid
        Naming it.
    """
    if not _ORIGIN.fullmatch(origin):
        raise SettingsInvalid(
            f"cors_origins holds exact origins such as https://app.example.org, in lower case and "
            f"without a path, not {origin!r}."
        )


def check_webhook_url(url: str) -> None:
    """Refuse a webhook that cannot be called; its URL may hold a secret and is not repeated.

    Raises
    ------
    SettingsInvalid
        Saying what would do.
    """
    try:
        parts = urlsplit(url)
        is_usable = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and parts.username is None
        )
    except ValueError:
        is_usable = False
    if not (is_usable and url.isascii() and url.isprintable()) or " " in url:
        raise SettingsInvalid(
            "alert_webhook_url must be a URL with http:// or https://, a host and no user, such as "
            "https://hooks.example.org/alerts."
        )


def check_redis_url(url: str) -> None:
    """Refuse a Redis URL that cannot work; it may hold a password and is not repeated.

    Raises
    ------
    SettingsInvalid
        Saying what would.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise SettingsInvalid("redis_url must begin with redis://, rediss:// or unix://.")
    if find_spec("redis") is None:
        raise SettingsInvalid(
            "redis_url is set, but the Redis client is not installed: "
            "`pip install 'mlserve_jupyter[redis]'`."
        )


def check_artifacts_url(url: str) -> None:
    """Refuse a URL of an artifact store that cannot work.

    Raises
    ------
    SettingsInvalid
        Saying what would.
    """
    protocol, separator, path = url.partition("://")
    is_folder = protocol in FOLDER_PROTOCOLS
    if not separator or not path.strip("/") or (is_folder and not path.startswith("/")):
        raise SettingsInvalid(
            f"artifacts_url is a URL such as s3://bucket/prefix or file:///folder, not "
            f"{shown_url(url)!r}."
        )
    if is_folder:
        return
    if protocol in ("s3", "s3a", "gs", "gcs") and "@" in path.partition("/")[0]:
        raise SettingsInvalid(
            "artifacts_url holds no credentials: give them as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or as your cloud's own libraries take them."
        )
    if protocol in ("memory", "data", "http", "https"):
        raise SettingsInvalid(
            f"artifacts_url cannot be of {protocol}://, which keeps nothing: use "
            "s3://bucket/prefix (AWS_ENDPOINT_URL names another server than Amazon's) or file:///folder."
        )
    if find_spec("fsspec") is None:
        raise SettingsInvalid(_NO_FILE_SYSTEMS)
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(protocol)
    except ValueError:
        raise SettingsInvalid(
            f"artifacts_url begins with {protocol}://, which fsspec does not know: is it written "
            "correctly, and is the package installed that brings it?"
        ) from None
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise SettingsInvalid(_NO_FILE_SYSTEMS) from None
        raise SettingsInvalid(
            f"artifacts_url begins with {protocol}://, and a package that this needs is not "
            f"installed. fsspec says: {error}."
        ) from None


def shown_url(url: str) -> str:
    """Return a URL without the password or the query that it may hold."""
    protocol, separator, rest = url.partition("://")
    if not separator:
        protocol, rest = "", url
    # A password may hold what should be escaped: the last @ of all ends it, and where that could
    # be one of the query, nothing is shown.
    place, _, query = rest.partition("?")
    shown = "…" if "@" in query else place.rpartition("@")[2]
    return f"{protocol}{separator}{shown}".rstrip("/")


def check_name(name: str) -> str:
    """Return ``name`` if it can name a model or a user.

    Names are part of URLs and of folders, so they are kept to a form that is the same in both:
    1 to 64 of ``a-z 0-9 . _ -``, with a letter or digit first and last, and no two dots in a row.

    Raises
    ------
    InvalidName
        Otherwise; the message says what would do.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        shown = name if len(name) <= 80 else name[:77] + "..."
        proposal = re.sub(r"[^a-z0-9_-]+", "-", name.lower())[:64].strip("-_.") or "my-model"
        raise InvalidName(
            f"{shown!r} is not a name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', with a letter or "
            f"digit first and last, such as {proposal!r}.",
            name=shown,
        )
    return name
