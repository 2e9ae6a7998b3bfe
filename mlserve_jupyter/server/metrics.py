"""``metrics``: what the server counts and measures, for Prometheus."""

from __future__ import annotations

import asyncio

from mlserve_jupyter.server.documentation import documented
from mlserve_jupyter.server.policy import METRICS, PUBLIC, Policy, requires
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.serving.measurement import MeasureAll


class MetricsResource(Resource):
    """The metrics of all processes of this server."""

    @property
    def policy(self) -> Policy | None:
        """Anybody may read where the setting ``metrics_public`` says so."""
        return PUBLIC if self.platform.settings.metrics_public else super().policy

    @documented(
        summary="Metrics in Prometheus' text format",
        answers={200: {"text/plain": str}},
    )
    @requires("read", METRICS, scope="admin")
    async def get(self) -> None:
        """Answer with the metrics, which name the models of all users."""
        # Imported by who needs it: the embedded host leaves its metrics to Jupyter.
        from prometheus_client import CONTENT_TYPE_LATEST

        from mlserve_jupyter.server.exposition import exposition

        measure_all: MeasureAll = self.settings["mlserve_measure_all"]
        measurements = await measure_all()
        text = await asyncio.to_thread(exposition, measurements)
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(text)
