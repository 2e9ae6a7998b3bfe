"""What a Jupyter server does for every request, for those that go past its handlers."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from jupyter_server.serverapp import ServerApp
from tornado.httputil import HTTPServerRequest

from mlserve_jupyter.server.fast_predict import FastCall

if TYPE_CHECKING:
    from prometheus_client import Histogram

MAX_NAMES = 100

_PLAIN_NAME = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}", re.ASCII)
"""A name or address; what Jupyter finds to be the path of a socket may be gone tomorrow."""

_HANDLER = "mlserve_jupyter.server.routes.PredictResource"


class JupyterRequests:
    """Jupyter's check of the ``Host`` header, its metrics and its log.

    Parameters
    ----------
    serverapp
        The Jupyter server.
    """

    def __init__(self, serverapp: ServerApp) -> None:
        self._log: logging.Logger = serverapp.log
        self._records_metrics = bool(getattr(serverapp, "record_http_request_metrics", True))
        self._durations: dict[int, Histogram] = {}
        self._names: set[str] = set()

    def note_allowed(self, host: str) -> None:
        """Remember a ``Host`` header that Jupyter itself has found to be this server's."""
        if len(self._names) < MAX_NAMES and _PLAIN_NAME.fullmatch(host):
            self._names.add(host)

    def allows_host(self, request: HTTPServerRequest) -> bool:
        """Whether Jupyter has let a request with this ``Host`` header in before."""
        return request.host in self._names

    def note(self, call: FastCall) -> None:
        """Count and log what was answered, as ``jupyter_server.log.log_request`` does."""
        if self._records_metrics:
            durations = self._durations.get(call.status)
            if durations is None:
                from jupyter_server.prometheus.metrics import HTTP_REQUEST_DURATION_SECONDS

                durations = self._durations[call.status] = HTTP_REQUEST_DURATION_SECONDS.labels(
                    method="POST", handler=_HANDLER, status_code=call.status
                )
            durations.observe(call.request.request_time())
        level = logging.DEBUG if call.status == 200 else logging.WARNING
        if self._log.isEnabledFor(level):
            self._log.log(
                level,
                "%d POST %s (@%s) %.2fms",
                call.status,
                call.request.uri,
                call.request.remote_ip,
                call.request.request_time() * 1e3,
            )
