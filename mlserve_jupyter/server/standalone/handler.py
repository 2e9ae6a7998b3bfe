"""The handler that resources are mixed with here: no Jupyter, no cookies, keys alone."""

from __future__ import annotations

from typing import Any, ClassVar

from tornado.web import Application, RequestHandler

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import PermissionDenied
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.credentials import unknown_caller
from mlserve_jupyter.server.documentation import SecuritySchemes
from mlserve_jupyter.server.fast_predict import FastPredict
from mlserve_jupyter.server.policy import Policy
from mlserve_jupyter.server.routes import handlers_for, predict_handler
from mlserve_jupyter.server.standalone.access_log import AccessLog
from mlserve_jupyter.server.standalone.hosts import HostNames
from mlserve_jupyter.serving.measurement import MeasureAll


class StandaloneHandler(RequestHandler):
    """A handler of the standalone application."""

    security_schemes: ClassVar[SecuritySchemes] = ()

    n_bytes_written = 0
    is_caller_gone = False

    def set_default_headers(self) -> None:
        """Leave out which server this is."""
        self.clear_header("Server")

    def prepare(self) -> None:
        """Refuse requests that are meant for another server.

        Raises
        ------
        PermissionDenied
            Naming the setting that would let them in.
        """
        names: HostNames = self.settings["mlserve_host_names"]
        if not names.allows(self.request.host):
            raise PermissionDenied(
                f"This server does not go by the name {self.request.host[:100]!r}. If it should, "
                "add the name to its setting allowed_hosts.",
                setting="allowed_hosts",
            )

    async def host_principal(self, policy: Policy) -> Principal:
        """Refuse: only a key proves anything here.

        Raises
        ------
        Unauthenticated
            Saying how to send one.
        """
        raise unknown_caller(
            self.request,
            "Send a key in the header X-MLServe-Key, or as 'Authorization: Bearer …'. "
            "`jupyter mlserve key` prints the server's own.",
        )

    def write(self, chunk: str | bytes | dict[str, Any]) -> None:
        """Count what is sent."""
        self.n_bytes_written += len(chunk)
        super().write(chunk)

    def on_connection_close(self) -> None:
        """Take note of a caller who did not wait for the answer."""
        self.is_caller_gone = True
        super().on_connection_close()

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Any:
        """Have the client come back on a new connection, once this server is about to stop."""
        if self.settings["mlserve_platform"].is_draining and not self._headers_written:
            self.set_header("Connection", "close")
        return super().finish(chunk)


def make_application(
    platform: Platform,
    base_url: str,
    host_names: HostNames,
    access_log: AccessLog,
    measure_all: MeasureAll,
) -> tuple[Application, FastPredict]:
    """Return the platform's routes, and nothing else, as an application; and its short way."""
    handlers = handlers_for(StandaloneHandler)
    _, not_found = handlers[-1]
    application = Application(
        [(base_url + pattern, handler) for pattern, handler in handlers] + [(r".*", not_found)],
        log_function=access_log.note,
        mlserve_platform=platform,
        mlserve_base_path=base_url + "mlserve/",
        mlserve_host_names=host_names,
        mlserve_measure_all=measure_all,
    )
    door = FastPredict(
        application,
        predict_handler(handlers),
        allows_host=lambda request: host_names.allows(request.host),
        note=access_log.note,
    )
    door.install()
    return application, door
