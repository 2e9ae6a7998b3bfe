"""``jupyter mlserve``: the standalone host's command line and configuration."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp
from traitlets import Float, Int, List, TraitError, Unicode, default
from traitlets.config import Config
from traitlets.config.loader import ArgumentError

from mlserve_jupyter.accounts.keys import record_of
from mlserve_jupyter.accounts.token_secret import read_or_make_token_secret
from mlserve_jupyter.errors import MLServeError, SettingsInvalid
from mlserve_jupyter.plain_text import plain
from mlserve_jupyter.server.settings_traits import SettingsTraits
from mlserve_jupyter.server.standalone.access_log import check_target
from mlserve_jupyter.server.standalone.admin import prepare_admins, run_admin_command
from mlserve_jupyter.server.standalone.command_line import (
    COMMANDS,
    check_config,
    check_options,
    check_words,
)
from mlserve_jupyter.server.standalone.db import run_db_command
from mlserve_jupyter.server.standalone.host_key import KEY_FILE, read_or_make_key
from mlserve_jupyter.server.standalone.logs import log_to_stderr
from mlserve_jupyter.server.standalone.options import HostOptions
from mlserve_jupyter.server.standalone.process import Orders
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.version import __version__

log = logging.getLogger(__name__)

_DEFAULTS = HostOptions(settings=Settings(data_dir=Path("/")))
_OWN = (
    "ip", "port", "workers", "base_url", "allowed_hosts", "certfile", "keyfile", "drain_grace_s",
    "drain_timeout_s", "keep_alive_s", "access_log", "log_style",
)  # fmt: skip


class MLServeServer(SettingsTraits, JupyterApp):
    """Serve models without a Jupyter server.

    `jupyter mlserve key` prints the key that callers send in the header X-MLServe-Key.
    `jupyter mlserve admin create --email ann@example.org` makes the first account.
    `jupyter mlserve db status` says how large the database is, and when its disk will be full.
    `jupyter mlserve openapi` prints the description of the REST API.
    """

    name = "jupyter-mlserve"
    version = __version__
    description = __doc__
    examples = """
    jupyter mlserve --port 8899 --workers 4
    jupyter mlserve --database-url postgresql+psycopg2://…
    jupyter mlserve key
    jupyter mlserve openapi
    jupyter mlserve admin create --email ann@example.org
    jupyter mlserve db status
    """

    ip = Unicode(_DEFAULTS.ip, help="Address to listen on; 0.0.0.0 for all.").tag(config=True)
    port = Int(_DEFAULTS.port, help="Port to listen on; 0 for any that is free.").tag(config=True)
    workers = Int(_DEFAULTS.workers, help="Server processes that share the port.").tag(config=True)
    base_url = Unicode(
        _DEFAULTS.base_url, help="Path below which 'mlserve/' lies, such as '/models/'."
    ).tag(config=True)
    allowed_hosts = List(
        Unicode(),
        help="Names that requests may call this server by, besides localhost and what is bound; "
        "'*' for any.",
    ).tag(config=True)
    certfile = Unicode(_DEFAULTS.certfile, help="TLS certificate (PEM).").tag(config=True)
    keyfile = Unicode(_DEFAULTS.keyfile, help="The certificate's key (PEM).").tag(config=True)
    drain_grace_s = Float(
        _DEFAULTS.drain_grace_s,
        help="How long everything is answered after SIGTERM while health/ready says 503, in "
        "seconds.",
    ).tag(config=True)
    drain_timeout_s = Float(
        _DEFAULTS.drain_timeout_s,
        help="How long requests that run may take then, in seconds.",
    ).tag(config=True)
    keep_alive_s = Float(
        _DEFAULTS.keep_alive_s,
        help="How long a connection may be idle, and a request's headers may take, in seconds.",
    ).tag(config=True)
    access_log = Unicode(
        _DEFAULTS.access_log, help="Where a JSON line a request goes: 'off', 'stderr' or a file."
    ).tag(config=True)

    log_style = Unicode(
        _DEFAULTS.log_style,
        help="What the server says on stderr: 'text', or 'json' for one JSON object a line.",
    ).tag(config=True)

    @default("allow_pickle")
    def _default_allow_pickle(self) -> bool:
        return False

    @default("registration")
    def _default_registration(self) -> str:
        return "invitation"

    @classmethod
    def configured(cls, argv: Sequence[str]) -> MLServeServer:
        """Return an application with what the configuration files and ``argv`` say.

        Raises
        ------
        SettingsInvalid
            If they cannot be read, or say what cannot be.
        """
        app = cls()
        app.raise_config_file_errors = True
        check_options(app, argv)
        try:
            app.parse_command_line(list(argv))
            check_words(app.extra_args)
            from_command_line: Config = deepcopy(app.config)
            app.load_config_file(suppress_errors=False)
            app.update_config(from_command_line)
        except MLServeError:
            raise
        except Exception as error:
            # A configuration file is Python, and may raise anything.
            raise SettingsInvalid(
                f"The configuration file cannot be read: {type(error).__name__}: {error}"
            ) from error
        return app

    def update_config(self, config: Config) -> None:
        """Take values, and refuse those of no option.

        Raises
        ------
        SettingsInvalid
            Naming the option that was probably meant.
        """
        check_config(self, config)
        super().update_config(config)

    def exit(self, exit_status: int | str | None = 0) -> None:
        """End the process, or refuse what was configured: a reload must not end the server.

        Raises
        ------
        SettingsInvalid
            Where traitlets wants to end the process over a value.
        """
        cause = sys.exc_info()[1]
        if isinstance(cause, (TraitError, ArgumentError)):
            raise SettingsInvalid(f"The configuration cannot be used: {cause}") from cause
        super().exit(exit_status)

    def options(self) -> HostOptions:
        """Return what was configured, checked.

        Raises
        ------
        SettingsInvalid
            Naming the setting that cannot be used.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in _OWN}
        values["allowed_hosts"] = tuple(self.allowed_hosts)
        values["base_url"] = f"/{self.base_url.strip('/')}/".replace("//", "/")
        if self.access_log not in ("off", "stderr"):
            values["access_log"] = os.path.abspath(os.path.expanduser(self.access_log))
        options = HostOptions(
            settings=self.platform_settings(), log_level=_level(self.log_level), **values
        )
        options.tls()
        check_target(options.access_log)
        return options

    def orders(self) -> Orders:
        """Return what the server processes are to do.

        Raises
        ------
        SettingsInvalid, StorageUnavailable, StorageFull
            If the configuration or the data folder cannot be used.
        """
        options = self.options()
        read_or_make_token_secret(options.settings.data_dir)  # for the processes, or a refusal
        record = record_of(read_or_make_key(options.settings.data_dir))
        assert record is not None
        return Orders(options, record)


def _level(level: object) -> int:
    """Return a log level as a number, in whichever of its two forms it was given."""
    return level if isinstance(level, int) else int(getattr(logging, str(level)))


def _alias_of(name: str) -> str:
    return name.replace("_", "-")


MLServeServer.aliases = {
    **JupyterApp.aliases,
    **{
        _alias_of(name): f"MLServeServer.{name}"
        for name in (*_OWN, *SettingsTraits.class_own_traits(config=True))
    },
}

MLServeServer.flags = {
    **JupyterApp.flags,
    "allow-pickle": (
        {"MLServeServer": {"allow_pickle": True}},
        SettingsTraits.allow_pickle.help,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``jupyter mlserve``; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["key"]:
            app = MLServeServer.configured(arguments[1:])
            print(read_or_make_key(app.platform_settings().data_dir))
            return 0
        if arguments[:1] == ["openapi"]:
            print(_openapi(MLServeServer.configured(arguments[1:]).options().base_url))
            return 0
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            check_words(arguments[:1])
        commands = {"admin": run_admin_command, "db": run_db_command}
        if arguments[:1] and arguments[0] in commands:
            return commands[arguments[0]](
                arguments[1:], lambda others: MLServeServer.configured(others).platform_settings()
            )
        app = MLServeServer.configured(arguments)
        if app.generate_config:
            app.write_default_config()
            return 0
        return _serve(app, arguments)
    except MLServeError as error:
        print(plain(f"jupyter mlserve: {error}"), file=sys.stderr)
        return 2


def _openapi(base_url: str) -> str:
    """Return what ``GET openapi.json`` answers, without a server."""
    from mlserve_jupyter.server.openapi.document import make_document
    from mlserve_jupyter.server.routes import ROUTES

    return json.dumps(make_document(ROUTES, f"{base_url}mlserve/", ()), indent=2)


def _serve(app: MLServeServer, arguments: Sequence[str]) -> int:
    from mlserve_jupyter.server.standalone.parent import Parent

    orders = app.orders()
    log_to_stderr(orders.options.log_level, orders.options.log_style)
    prepare_admins(orders.options.settings)
    allow_many_connections()
    parent = Parent(orders, lambda: MLServeServer.configured(arguments).orders())
    log.info(
        "Serving at %s with %d process(es). The key is in %s; `%s` prints it.",
        parent.options.url,
        parent.options.workers,
        parent.options.settings.data_dir / KEY_FILE,
        _key_command(parent.options.settings.data_dir),
    )
    return parent.run()


def _key_command(data_dir: Path) -> str:
    """Return the command that prints the key in a data folder."""
    if data_dir == MLServeServer().platform_settings().data_dir:
        return "jupyter mlserve key"
    return f"jupyter mlserve key --data-dir={shlex.quote(str(data_dir))}"


def allow_many_connections() -> None:
    """Raise the number of files that may be open to what the system allows this user."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
