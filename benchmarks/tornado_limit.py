"""An empty tornado application on the standalone host's event loop: the limit of that host.

``python -m benchmarks.tornado_limit PORT``
"""

from __future__ import annotations

import asyncio
import logging
import sys

from tornado.web import Application, RequestHandler

from mlserve_jupyter.server.standalone.process import new_event_loop


class EmptyHandler(RequestHandler):
    """Does nothing."""

    def post(self) -> None:
        """Answer."""
        self.finish("{}")


async def serve(port: int) -> None:
    """Serve until killed."""
    Application([(r"/.*", EmptyHandler)]).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(serve(int(sys.argv[1])))
