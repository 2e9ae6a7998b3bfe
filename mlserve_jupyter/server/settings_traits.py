"""The settings as traits: what both hosts can be told in a file or on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir
from traitlets import Bool, Float, Int, List, Unicode, default
from traitlets.config import Configurable

from mlserve_jupyter.settings import Settings

_DEFAULTS = Settings(data_dir=Path("/"))


class SettingsTraits(Configurable):
    """Mixed into a host's application; ``docs/settings.md`` lists them."""

    data_dir = Unicode(
        help="Folder of the database, the artifacts and the log; not under the notebook root."
    ).tag(config=True)
    database_url = Unicode(
        _DEFAULTS.database_url, help="SQLAlchemy URL; empty for SQLite in data_dir."
    ).tag(config=True)
    database_replica_url = Unicode(
        _DEFAULTS.database_replica_url,
        help="URL of a PostgreSQL that follows that of database_url and answers reports; empty for "
        "none.",
    ).tag(config=True)
    database_pool_size = Int(
        _DEFAULTS.database_pool_size, help="Connections to PostgreSQL that a process keeps."
    ).tag(config=True)
    database_pool_overflow = Int(
        _DEFAULTS.database_pool_overflow,
        help="Connections to PostgreSQL that a process may open beyond those that it keeps.",
    ).tag(config=True)
    database_pool_recycle_s = Float(
        _DEFAULTS.database_pool_recycle_s,
        help="Age at which a connection to PostgreSQL is made anew, in seconds.",
    ).tag(config=True)
    database_connect_timeout_s = Float(
        _DEFAULTS.database_connect_timeout_s,
        help="What connecting to PostgreSQL may take, in seconds.",
    ).tag(config=True)
    database_statement_timeout_s = Float(
        _DEFAULTS.database_statement_timeout_s,
        help="What a statement may take in PostgreSQL, in seconds.",
    ).tag(config=True)
    database_lock_timeout_s = Float(
        _DEFAULTS.database_lock_timeout_s,
        help="How long a statement waits for a lock in PostgreSQL, in seconds.",
    ).tag(config=True)
    database_dead_after_s = Float(
        _DEFAULTS.database_dead_after_s,
        help="A connection to PostgreSQL whose other end cannot be reached for so long is given "
        "up, in seconds.",
    ).tag(config=True)
    artifacts_url = Unicode(
        _DEFAULTS.artifacts_url,
        help="Where artifacts and archives lie: any fsspec URL, such as s3://bucket/prefix (needs "
        "the extra 's3'); empty for folders in data_dir.",
    ).tag(config=True)
    artifacts_timeout_s = Float(
        _DEFAULTS.artifacts_timeout_s,
        help="How long a request to that store may go without an answer, in seconds.",
    ).tag(config=True)
    artifacts_cache_bytes = Int(
        _DEFAULTS.artifacts_cache_bytes,
        help="Bytes of the copies of artifacts that are kept in data_dir.",
    ).tag(config=True)
    owner = Unicode(
        _DEFAULTS.owner,
        help="Name of the platform user that the notebook's owner is, where Jupyter itself gives "
        "no name (token or password authentication).",
    ).tag(config=True)
    registration = Unicode(
        _DEFAULTS.registration,
        help="Whether people may make accounts: 'open', by 'invitation', or 'closed'.",
    ).tag(config=True)
    allow_pickle = Bool(
        _DEFAULTS.allow_pickle,
        help="Whether artifacts that can run code (joblib, cloudpickle) may be deployed, and from "
        "any interpreter of this machine.",
    ).tag(config=True)
    max_artifact_bytes = Int(
        _DEFAULTS.max_artifact_bytes, help="Largest artifact that may be deployed, in bytes."
    ).tag(config=True)
    max_body_bytes = Int(
        _DEFAULTS.max_body_bytes, help="Largest body of a predict call, in bytes."
    ).tag(config=True)
    max_answer_bytes = Int(
        _DEFAULTS.max_answer_bytes,
        help="What the predictions of one call may take as JSON, in bytes.",
    ).tag(config=True)
    predict_timeout_s = Float(
        _DEFAULTS.predict_timeout_s, help="Deadline of a predict call, in seconds."
    ).tag(config=True)
    load_timeout_s = Float(
        _DEFAULTS.load_timeout_s,
        help="What a call may take longer while its model is being loaded, in seconds.",
    ).tag(config=True)
    verify_timeout_s = Float(
        _DEFAULTS.verify_timeout_s, help="Deadline of the verification of a deploy, in seconds."
    ).tag(config=True)
    max_loaded_bytes = Int(
        _DEFAULTS.max_loaded_bytes,
        help="Bytes of models that a worker keeps; the least recently used go first.",
    ).tag(config=True)
    max_loaded_models = Int(
        _DEFAULTS.max_loaded_models, help="Models that a worker keeps; 0 for no limit by count."
    ).tag(config=True)
    worker_memory_bytes = Int(
        _DEFAULTS.worker_memory_bytes,
        help="Memory at which a worker is killed and replaced, in bytes; 0 for no limit.",
    ).tag(config=True)
    decoder_memory_bytes = Int(
        _DEFAULTS.decoder_memory_bytes,
        help="Memory of a process that decodes large bodies, Arrow and Parquet, in bytes.",
    ).tag(config=True)
    workers_per_environment = Int(
        _DEFAULTS.workers_per_environment, help="Worker processes of one Python environment."
    ).tag(config=True)
    worker_start_method = Unicode(
        _DEFAULTS.worker_start_method,
        help="'fork' or 'spawn'; empty for what suits the platform.",
    ).tag(config=True)
    worker_idle_s = Float(
        _DEFAULTS.worker_idle_s,
        help="Seconds without a call after which an environment's processes end.",
    ).tag(config=True)
    max_queue_requests = Int(
        _DEFAULTS.max_queue_requests, help="Calls that may wait for one worker."
    ).tag(config=True)
    max_queue_rows = Int(
        _DEFAULTS.max_queue_rows, help="Rows of all calls that may wait for one worker."
    ).tag(config=True)
    max_queue_bytes = Int(
        _DEFAULTS.max_queue_bytes, help="Bytes of all calls that may wait for one worker."
    ).tag(config=True)
    max_batch_rows = Int(
        _DEFAULTS.max_batch_rows, help="Rows of the calls that a worker takes at once."
    ).tag(config=True)
    result_cache = Unicode(
        _DEFAULTS.result_cache,
        help="'auto': answers are kept where that pays; 'on': wherever they may be; 'off': never.",
    ).tag(config=True)
    cache_ttl_s = Float(
        _DEFAULTS.cache_ttl_s, help="How long the result cache keeps an answer, in seconds."
    ).tag(config=True)
    cache_max_bytes = Int(
        _DEFAULTS.cache_max_bytes, help="Bytes of the result cache in this process's memory."
    ).tag(config=True)
    redis_url = Unicode(
        _DEFAULTS.redis_url,
        help="URL of a Redis behind the result cache (needs the extra 'redis'); empty for none.",
    ).tag(config=True)
    redis_timeout_s = Float(
        _DEFAULTS.redis_timeout_s, help="How long a call waits for Redis, in seconds."
    ).tag(config=True)
    quota_per_minute = Int(
        _DEFAULTS.quota_per_minute,
        help="Requests a minute of an outside user or key for whom nothing else is set; 0 for no "
        "limit.",
    ).tag(config=True)
    trusted_proxies = List(
        Unicode(),
        help="Addresses and networks of proxies whose X-Forwarded-For says who the client is.",
    ).tag(config=True)
    cors_origins = List(
        Unicode(),
        help="Exact origins, such as https://app.example.org, whose pages may call with a key or "
        "token.",
    ).tag(config=True)
    metrics_public = Bool(
        _DEFAULTS.metrics_public,
        help="Whether anybody may read mlserve/metrics, which names the models of all users.",
    ).tag(config=True)
    slow_request_s = Float(
        _DEFAULTS.slow_request_s,
        help="Requests that take longer are logged as warnings, in seconds; 0 for none.",
    ).tag(config=True)
    alert_every_s = Float(
        _DEFAULTS.alert_every_s, help="How often what alerts watch is looked at, in seconds."
    ).tag(config=True)
    alert_p95_ms = Float(
        _DEFAULTS.alert_p95_ms,
        help="p95 of a model's calls above which there is an alert, in milliseconds; 0 for none.",
    ).tag(config=True)
    alert_error_rate = Float(
        _DEFAULTS.alert_error_rate,
        help="Share of a model's calls that fail above which there is an alert; 0 for none.",
    ).tag(config=True)
    alert_drift = Float(
        _DEFAULTS.alert_drift,
        help="Population stability index of a model's input above which there is an alert; 0 for "
        "none.",
    ).tag(config=True)
    alert_disk_used = Float(
        _DEFAULTS.alert_disk_used,
        help="Share of a disk that is used above which there is an alert; 0 for none.",
    ).tag(config=True)
    alert_key_use = Float(
        _DEFAULTS.alert_key_use,
        help="How many times the requests of its busiest hour of a week a key may make in an hour "
        "before there is an alert; 0 for none.",
    ).tag(config=True)
    alert_webhook_url = Unicode(
        _DEFAULTS.alert_webhook_url,
        help="http or https URL that alerts are sent to; empty for none.",
    ).tag(config=True)
    alert_webhook_secret = Unicode(
        _DEFAULTS.alert_webhook_secret,
        help="Signs what is sent there (X-MLServe-Signature); empty for no signature.",
    ).tag(config=True)
    keep_warm_models = Int(
        _DEFAULTS.keep_warm_models,
        help="Recently called versions that are loaded before they are called again: at start and "
        "after a worker has ended; 0 for none.",
    ).tag(config=True)
    log_buffer_rows = Int(
        _DEFAULTS.log_buffer_rows, help="Calls that the prediction log's buffer holds."
    ).tag(config=True)
    log_buffer_bytes = Int(
        _DEFAULTS.log_buffer_bytes, help="Bytes that the prediction log's buffer holds."
    ).tag(config=True)
    log_flush_s = Float(
        _DEFAULTS.log_flush_s, help="How often the prediction log is written, in seconds."
    ).tag(config=True)
    log_max_value_bytes = Int(
        _DEFAULTS.log_max_value_bytes,
        help="Inputs and outputs above this size are left out of the log, in bytes.",
    ).tag(config=True)
    retention_days = Int(
        _DEFAULTS.retention_days,
        help="Days that predictions stay in the database, at most 36,500; older ones are archived "
        "to files. 0 to keep them for ever.",
    ).tag(config=True)
    catalog_poll_s = Float(
        _DEFAULTS.catalog_poll_s,
        help="How soon a deploy of another server on the same database is seen, in seconds.",
    ).tag(config=True)

    @default("data_dir")
    def _default_data_dir(self) -> str:
        return os.path.join(jupyter_data_dir(), "mlserve")

    def platform_settings(self) -> Settings:
        """Return the traits as the platform's settings.

        Raises
        ------
        SettingsInvalid
            If one cannot be used.
        """
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in Settings.__dataclass_fields__
            if name != "data_dir" and self.has_trait(name)
        }
        for name in ("trusted_proxies", "cors_origins"):
            values[name] = tuple(values[name])
        return Settings(data_dir=Path(self.data_dir).expanduser().absolute(), **values)
