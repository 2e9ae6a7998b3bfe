"""A Jupyter extension with one empty handler: the limit that embedded serving is held against."""

from __future__ import annotations

from jupyter_server.base.handlers import APIHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from tornado.web import authenticated


class EmptyHandler(APIHandler):
    """Checks what any authenticated handler of Jupyter checks, and does nothing."""

    @authenticated
    async def post(self) -> None:
        """Answer."""
        self.finish("{}")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "benchmarks.limits"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    path = url_path_join(app.base_url, "limits/empty")
    app.web_app.add_handlers(".*$", [(path, EmptyHandler)])
