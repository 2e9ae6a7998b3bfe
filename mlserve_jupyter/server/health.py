"""Whether the service lives, and whether it can answer."""

from __future__ import annotations

from mlserve_jupyter.server.policy import public
from mlserve_jupyter.server.resource import Resource


class LiveResource(Resource):
    """``health/live``."""

    @public
    def get(self) -> None:
        """Answer as long as the process does."""
        self.answer({"status": "live"})


class ReadyResource(Resource):
    """``health/ready``."""

    @public
    async def get(self) -> None:
        """Answer 200 if the database answers and predictions can be served, else 503."""
        await self.platform.check_ready()
        self.answer({"status": "ready"})
