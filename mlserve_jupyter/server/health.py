"""Whether the service lives, and whether it can answer."""

from __future__ import annotations

import logging

from mlserve_jupyter.api.resources import DescribeHealth, ErrorBody
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.policy import public
from mlserve_jupyter.server.resource import Resource

log = logging.getLogger(__name__)


class LiveResource(Resource):
    """``health/live``."""

    @documented(summary="Whether the server lives", answers={200: DescribeHealth})
    @public
    def get(self) -> None:
        """Answer as long as the process does."""
        self.answer(DescribeHealth(status="live"))


class ReadyResource(Resource):
    """``health/ready``."""

    @documented(
        summary="Whether predictions can be served",
        answers={200: DescribeHealth, 503: ErrorBody},
    )
    @public
    async def get(self) -> None:
        """Answer 200 if the database answers and predictions can be served, else 503.

        Anybody may ask, so the answer names no path and nothing that a driver says.
        """
        try:
            await self.platform.check_ready()
        except MLServeError as error:
            log.warning("Not ready (request %s): %s", self.request_id, error)
            message = "This server is not ready. Its log has the reason under the request id."
            self.set_header("Retry-After", "1")
            self.answer(
                ErrorBody(code=error.code, message=message, details={}, request_id=self.request_id),
                503,
            )
            return
        self.answer(DescribeHealth(status="ready"))
