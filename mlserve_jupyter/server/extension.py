"""The embedded host: the extension of a Jupyter server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from jupyter_core.paths import jupyter_runtime_dir
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import ensure_async, url_path_join
from prometheus_client import REGISTRY
from traitlets import Bool, default

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.token_secret import given_token_secret
from mlserve_jupyter.errors import PermissionDenied, SettingsInvalid
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.connection_file import ConnectionFile
from mlserve_jupyter.server.credentials import unknown_caller
from mlserve_jupyter.server.documentation import SecurityScheme, SecuritySchemes
from mlserve_jupyter.server.exposition import MeasurementCollector
from mlserve_jupyter.server.fast_predict import FastPredict
from mlserve_jupyter.server.jupyter_requests import JupyterRequests
from mlserve_jupyter.server.owner import default_owner, kernel_role, owner_name, role_of
from mlserve_jupyter.server.policy import Policy
from mlserve_jupyter.server.routes import handlers_for, predict_handler
from mlserve_jupyter.server.settings_traits import SettingsTraits
from mlserve_jupyter.server.turns import KernelsInUse, Turns
from mlserve_jupyter.serving.measurement import Measurements
from mlserve_jupyter.settings import Settings

PERSONAL_ARGUMENTS = ("contains", "principal")
"""Query arguments that may tell of persons: Jupyter's log of refused requests leaves them out."""


class MLServeHandler(APIHandler):
    """A handler of a Jupyter server: its checks of host, origin, token, cookie and XSRF apply."""

    security_schemes: ClassVar[SecuritySchemes] = (
        (
            "jupyter",
            SecurityScheme(
                "apiKey",
                "Jupyter's own token, as `token …`; in a browser, Jupyter's cookie will do.",
                where="header",
                name="Authorization",
            ),
        ),
    )

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Keep the content type that the resource has set; Jupyter would say JSON in any case."""
        kwargs.setdefault("set_content_type", self._headers["Content-Type"])
        return super().finish(*args, **kwargs)

    async def prepare(self, **options: Any) -> None:
        """Let Jupyter check the request, and remember what it was called by.

        The options are Jupyter's own, hence ``Any``.
        """
        await super().prepare(**options)
        requests: JupyterRequests = self.settings["mlserve_requests"]
        requests.note_allowed(self.request.host)

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
            raise unknown_caller(
                self.request,
                "Send Jupyter's token ('Authorization: token …'), or a key in the header "
                "X-MLServe-Key.",
            )
        allowed = await ensure_async(
            self.authorizer.is_authorized(self, user, policy.action, policy.resource)
        )
        if not allowed:
            raise PermissionDenied(
                f"Jupyter's authorizer does not let you {policy.action} {policy.resource}."
            )
        configured = self.settings["mlserve_platform"].settings.owner
        provider = self.identity_provider
        name = owner_name(provider, user.username, configured)
        return Principal(name, "jupyter", role=role_of(provider, user))


class MLServeApp(SettingsTraits, ExtensionApp):
    """Serve models from this Jupyter server.

    All traits are set as ``c.MLServeApp.<name>`` in ``jupyter_server_config.py`` or with
    ``--MLServeApp.<name>=…``; ``docs/settings.md`` lists them.
    """

    name = "mlserve_jupyter"
    extension_url = "/mlserve/health/live"
    load_other_extensions = True

    enabled = Bool(True, help="Whether models are served at all.").tag(config=True)

    @default("owner")
    def _default_owner(self) -> str:
        return default_owner(Settings.owner)

    _platform: Platform | None = None
    _connection_file: ConnectionFile | None = None
    _collector: MeasurementCollector | None = None

    def initialize_settings(self) -> None:
        """Build the platform, which opens nothing yet."""
        if not self.enabled:
            self.log.info("mlserve_jupyter is turned off by MLServeApp.enabled.")
            return
        try:
            settings = self.platform_settings()
            check_out_of_reach(settings.data_dir, _server(self))
            given_token_secret()
        except SettingsInvalid as error:
            self.log.error("mlserve_jupyter does not serve: %s", error)
            return
        platform = self._platform = Platform(settings)
        # So that Jupyter's own /metrics shows ours, too.
        self._collector = MeasurementCollector(lambda: {"": platform.measure()})
        REGISTRY.register(self._collector)
        base_path = url_path_join(_server(self).base_url, "mlserve/")
        self.settings.update(
            mlserve_platform=self._platform,
            mlserve_base_path=base_path,
            mlserve_measure_all=self._measure_all,
            mlserve_requests=JupyterRequests(_server(self)),
            extra_log_scrub_param_keys=[
                *getattr(_server(self), "extra_log_scrub_param_keys", ()),
                *PERSONAL_ARGUMENTS,
            ],
        )

    def initialize_handlers(self) -> None:
        """Add the routes."""
        if self._platform is not None:
            handlers = handlers_for(MLServeHandler)
            self.handlers.extend(handlers)
            requests: JupyterRequests = self.settings["mlserve_requests"]
            FastPredict(
                _server(self).web_app,
                predict_handler(handlers),
                allows_host=requests.allows_host,
                note=requests.note,
                take=Turns(KernelsInUse(_server(self).kernel_manager)).take,
            ).install()

    async def _measure_all(self) -> Measurements:
        assert self._platform is not None
        return {"": self._platform.measure()}

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Tell the kernels where this server is, now that it listens, and load models ahead."""
        if self._platform is None:
            return
        self._connection_file = ConnectionFile(
            Path(jupyter_runtime_dir()),
            url=url_path_join(_loopback_url(serverapp), "mlserve/"),
            key=self._platform.make_kernel_key(kernel_role(serverapp.identity_provider)),
            root_dir=serverapp.root_dir,
            has_token=bool(serverapp.identity_provider.token),
        )
        self._connection_file.write()
        self._platform.open_ahead()

    async def stop_extension(self) -> None:
        """Close everything."""
        if self._connection_file is not None:
            self._connection_file.remove()
        if self._collector is not None:
            REGISTRY.unregister(self._collector)
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
