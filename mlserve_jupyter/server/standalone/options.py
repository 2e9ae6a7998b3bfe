"""What a standalone server was told, and which of it may change while it runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, fields, replace

from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.settings import Settings

RELOADABLE = frozenset(
    {
        "access_log",
        "alert_disk_used",
        "alert_drift",
        "alert_error_rate",
        "alert_key_use",
        "alert_p95_ms",
        "alert_webhook_secret",
        "alert_webhook_url",
        "allow_pickle",
        "allowed_hosts",
        "certfile",
        "cors_origins",
        "drain_grace_s",
        "drain_timeout_s",
        "keyfile",
        "load_timeout_s",
        "log_level",
        "max_artifact_bytes",
        "max_batch_rows",
        "max_body_bytes",
        "max_queue_bytes",
        "max_queue_requests",
        "max_queue_rows",
        "metrics_public",
        "predict_timeout_s",
        "quota_per_minute",
        "registration",
        "slow_request_s",
        "trusted_proxies",
        "verify_timeout_s",
        "worker_idle_s",
    }
)
"""What SIGHUP can change; all others need a restart."""


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """Everything that a server process needs to know.

    Attributes
    ----------
    settings
        Of the platform.
    ip, port, base_url
        Where it listens; ``base_url`` begins and ends with ``/``.
    workers
        How many server processes share the port.
    allowed_hosts
        Names that a ``Host`` header may have besides the obvious ones; ``*`` for any.
    certfile, keyfile
        PEM files for TLS; empty for none.
    drain_grace_s, drain_timeout_s
        How long all goes on being answered after SIGTERM, and how long what runs may take then.
    keep_alive_s
        How long a connection may be idle, and how long a request's headers may take.
    access_log
        ``off``, ``stderr`` or a file.
    log_level, log_style
        Of the standard library's logging; ``text`` or ``json``.
    """

    settings: Settings
    ip: str = "127.0.0.1"
    port: int = 8899
    base_url: str = "/"
    workers: int = 1
    allowed_hosts: tuple[str, ...] = ()
    certfile: str = ""
    keyfile: str = ""
    drain_grace_s: float = 5.0
    drain_timeout_s: float = 60.0
    keep_alive_s: float = 75.0
    access_log: str = "off"
    log_level: int = 20
    log_style: str = "text"

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the option."""
        if not 0 <= self.port <= 65535:
            raise SettingsInvalid(f"port must be from 0 to 65535, not {self.port}.")
        if not 1 <= self.workers <= 256:
            raise SettingsInvalid(f"workers must be from 1 to 256, not {self.workers}.")
        for name in ("drain_grace_s", "drain_timeout_s"):
            if getattr(self, name) < 0:
                raise SettingsInvalid(f"{name} must not be negative.")
        if self.log_style not in ("text", "json"):
            raise SettingsInvalid(f"log_style must be 'text' or 'json', not {self.log_style!r}.")
        if self.keep_alive_s <= 0:
            raise SettingsInvalid("keep_alive_s must be positive.")
        if not (self.base_url.startswith("/") and self.base_url.endswith("/")):
            raise SettingsInvalid(f"base_url must begin and end with '/', not {self.base_url!r}.")
        if self.keyfile and not self.certfile:
            raise SettingsInvalid("keyfile is set without certfile: set both, or neither.")

    @property
    def url(self) -> str:
        """The URL of the platform's routes on this machine."""
        host = self.ip if self.ip not in ("", "*", "0.0.0.0", "::") else "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.certfile else ''}://{host}:{self.port}{self.base_url}mlserve/"

    def tls(self) -> ssl.SSLContext | None:
        """Read the certificate, if there is one.

        Raises
        ------
        SettingsInvalid
            If it cannot be read.
        """
        if not self.certfile:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        load_certificate(context, self)
        return context


def load_certificate(context: ssl.SSLContext, options: HostOptions) -> None:
    """Let new connections see the certificate as its files are now.

    Raises
    ------
    SettingsInvalid
        If they cannot be used.
    """
    try:
        context.load_cert_chain(options.certfile, options.keyfile or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(
            f"The certificate {options.certfile!r} with the key {options.keyfile!r} cannot be "
            f"used: {error}."
        ) from error


def changed(old: HostOptions, new: HostOptions) -> set[str]:
    """Name the options and settings that differ."""
    names = {
        field.name
        for field in fields(Settings)
        if getattr(old.settings, field.name) != getattr(new.settings, field.name)
    }
    return names | {
        field.name
        for field in fields(HostOptions)
        if field.name != "settings" and getattr(old, field.name) != getattr(new, field.name)
    }


def reloadable(old: HostOptions, new: HostOptions) -> set[str]:
    """Name what differs and may change while the server runs."""
    names = changed(old, new) & RELOADABLE
    if bool(old.certfile) != bool(new.certfile):
        names -= {"certfile", "keyfile"}  # a port that spoke TLS does not begin to speak without
    return names


def with_reloadable(old: HostOptions, new: HostOptions) -> HostOptions:
    """Take over from ``new`` what may change while the server runs."""
    names = reloadable(old, new)
    of_settings = {name for name in names if name in Settings.__dataclass_fields__}
    settings = replace(old.settings, **{name: getattr(new.settings, name) for name in of_settings})
    others = {name: getattr(new, name) for name in names - of_settings}
    return replace(old, settings=settings, **others)
