"""Whatever else is asked for below ``mlserve/``."""

from __future__ import annotations

from tornado.web import HTTPError

from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.policy import public
from mlserve_jupyter.server.resource import Resource


class NotFoundResource(Resource):
    """There is nothing here, and the answer says so in the same words as all errors."""

    @documented(summary="Nothing is here", answers={})
    @public
    def get(self) -> None:
        """Answer 404."""
        raise HTTPError(404)

    post = put = patch = delete = head = get
