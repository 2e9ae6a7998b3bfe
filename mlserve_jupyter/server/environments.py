"""``api/v1/environments``: a kernel says which interpreter it will deploy from."""

from __future__ import annotations

import msgspec

from mlserve_jupyter.errors import EnvironmentUnusable
from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.policy import MODELS, requires
from mlserve_jupyter.server.resource import Resource


class WarmEnvironment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interpreter, and modules that models from it will need."""

    interpreter: str
    modules: list[str] = []


class DescribeWarming(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter whose processes are being started."""

    interpreter: str


class EnvironmentsResource(Resource):
    """Environments of workers."""

    @documented(
        summary="Prepare workers for an interpreter",
        body=WarmEnvironment,
        answers={202: DescribeWarming},
        errors=(EnvironmentUnusable,),
    )
    @requires("write", MODELS, scope="deploy")
    async def post(self) -> None:
        """Start an environment's supervisor in the background."""
        wanted = self.decode_body(WarmEnvironment)
        services = await self.platform.services()
        services.deployer.warm_in_background(wanted.interpreter, wanted.modules)
        self.answer(DescribeWarming(interpreter=wanted.interpreter), 202)
