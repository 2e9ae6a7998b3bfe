"""The embedded host: the extension of a Jupyter server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import ensure_async, url_path_join
from traitlets import Bool, Float, Int, Unicode, default

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import PermissionDenied, SettingsInvalid, Unauthenticated
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.connection_file import ConnectionFile
from mlserve_jupyter.server.owner import owner_name
from mlserve_jupyter.server.policy import Policy
from mlserve_jupyter.server.routes import handlers_for
from mlserve_jupyter.settings import Settings

_DEFAULTS = Settings(data_dir=Path("/"))


class MLServeHandler(APIHandler):
    """A handler of a Jupyter server: its checks of host, origin, token, cookie and XSRF apply."""

    async def host_principal(self, policy: Policy) -> Principal:
        """Return the platform user that Jupyter's identity stands for.

        Raises
        ------
        Unauthenticated
            If Jupyter does not know the caller.
        PermissionDenied
            If Jupyter's authorizer refuses.
        """
        user = self.current_user
        if user is None:
            raise Unauthenticated(
                "Send Jupyter's token ('Authorization: token …'), or a key in the header "
                "X-MLServe-Key."
            )
        allowed = await ensure_async(
            self.authorizer.is_authorized(self, user, policy.action, policy.resource)
        )
        if not allowed:
            raise PermissionDenied(
                f"Jupyter's authorizer does not let you {policy.action} {policy.resource}."
            )
        configured = self.settings["mlserve_platform"].settings.owner
        return Principal(owner_name(self.identity_provider, user.username, configured), "jupyter")


class MLServeApp(ExtensionApp):
    """Serve models from this Jupyter server.

    All traits are set as ``c.MLServeApp.<name>`` in ``jupyter_server_config.py`` or with
    ``--MLServeApp.<name>=…``; ``docs/settings.md`` lists them.
    """

    name = "mlserve_jupyter"
    extension_url = "/mlserve/health/live"
    load_other_extensions = True

    enabled = Bool(True, help="Whether models are served at all.").tag(config=True)
    data_dir = Unicode(
        help="Folder of the database, the artifacts and the log; not under the notebook root."
    ).tag(config=True)
    database_url = Unicode(
        _DEFAULTS.database_url, help="SQLAlchemy URL; empty for SQLite in data_dir."
    ).tag(config=True)
    owner = Unicode(
        _DEFAULTS.owner,
        help="Name of the platform user that the notebook's owner is, where Jupyter itself gives "
        "no name (token or password authentication).",
    ).tag(config=True)
    max_artifact_bytes = Int(
        _DEFAULTS.max_artifact_bytes, help="Largest artifact that may be deployed, in bytes."
    ).tag(config=True)
    max_body_bytes = Int(
        _DEFAULTS.max_body_bytes, help="Largest body of a predict call, in bytes."
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
    catalog_poll_s = Float(
        _DEFAULTS.catalog_poll_s,
        help="How soon a deploy of another server on the same database is seen, in seconds.",
    ).tag(config=True)

    _platform: Platform | None = None
    _connection_file: ConnectionFile | None = None

    @default("data_dir")
    def _default_data_dir(self) -> str:
        return os.path.join(jupyter_data_dir(), "mlserve")

    def platform_settings(self) -> Settings:
        """Return the traits as the platform's settings.

        Raises
        ------
        SettingsInvalid
            If one cannot be used, or the data folder would be served to notebook users.
        """
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in Settings.__dataclass_fields__
            if name != "data_dir" and self.has_trait(name)
        }
        return Settings(data_dir=Path(self.data_dir).expanduser().absolute(), **values)

    def initialize_settings(self) -> None:
        """Build the platform, which opens nothing yet."""
        if not self.enabled:
            self.log.info("mlserve_jupyter is turned off by MLServeApp.enabled.")
            return
        try:
            settings = self.platform_settings()
            check_out_of_reach(settings.data_dir, _server(self))
        except SettingsInvalid as error:
            self.log.error("mlserve_jupyter does not serve: %s", error)
            return
        self._platform = Platform(settings)
        base_path = url_path_join(_server(self).base_url, "mlserve/")
        self.settings.update(mlserve_platform=self._platform, mlserve_base_path=base_path)

    def initialize_handlers(self) -> None:
        """Add the routes."""
        if self._platform is not None:
            self.handlers.extend(handlers_for(MLServeHandler))

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Tell the kernels where this server is, now that it listens."""
        if self._platform is None:
            return
        self._connection_file = ConnectionFile(
            Path(jupyter_runtime_dir()),
            url=url_path_join(_loopback_url(serverapp), "mlserve/"),
            key=self._platform.make_kernel_key(),
            root_dir=serverapp.root_dir,
        )
        self._connection_file.write()

    async def stop_extension(self) -> None:
        """Close everything."""
        if self._connection_file is not None:
            self._connection_file.remove()
        if self._platform is not None:
            await self._platform.aclose()


def check_out_of_reach(data_dir: Path, serverapp: ServerApp) -> None:
    """Refuse a data folder that the contents API could serve.

    A folder under the notebook root is out of reach as long as its path has a hidden part and
    hidden files are not served, which is Jupyter's default.

    Raises
    ------
    SettingsInvalid
        Saying what to set.
    """
    root = Path(serverapp.root_dir).resolve()
    try:
        inside = data_dir.resolve().relative_to(root)
    except ValueError:
        return
    is_hidden = any(part.startswith(".") for part in inside.parts)
    if not is_hidden or getattr(serverapp.contents_manager, "allow_hidden", False):
        raise SettingsInvalid(
            f"The data folder {data_dir} lies under the notebook root {root}, where anybody who "
            "may read notebooks could read it. Set MLServeApp.data_dir to a folder elsewhere."
        )


def _server(app: ExtensionApp) -> ServerApp:
    assert app.serverapp is not None
    return app.serverapp


def _loopback_url(serverapp: ServerApp) -> str:
    """Return the URL at which a kernel on this machine reaches the server."""
    scheme = "https" if serverapp.certfile else "http"
    host = serverapp.ip if serverapp.ip not in ("", "*", "0.0.0.0", "::") else "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{serverapp.port}{serverapp.base_url}"
