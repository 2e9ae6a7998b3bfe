"""The composition root: what a host builds, starts and closes.

Building is cheap and imports nothing heavy. The database, the registry and the workers' pool are
opened at the first request that needs them, or ahead of it where there may be models to load.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from mlserve_jupyter.accounts.audit_buffer import AuditBuffer
from mlserve_jupyter.accounts.counters import Counters, OwnCounters
from mlserve_jupyter.accounts.credentials import Credentials
from mlserve_jupyter.accounts.keys import make_key
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quotas import Quotas
from mlserve_jupyter.analytics.call_metrics import RequestCounts
from mlserve_jupyter.errors import MLServeError, StorageUnavailable, Unavailable
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from mlserve_jupyter.services import Services
    from mlserve_jupyter.serving.measurement import Measurement
    from mlserve_jupyter.storage.users import Role

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 3.0
"""A database that takes longer than this to say its epoch is not ready."""


class Platform:
    """The whole of it, in one process.

    Parameters
    ----------
    settings
        Everything that can be set.
    counters
        Where requests and attempts are counted on this machine; None for a process that counts for
        itself.

    Attributes
    ----------
    quotas
        Asked on each request of somebody who has one.
    requests
        Counts the requests that were answered.
    audit
        Takes refusals at any time, also before the database is opened.
    credentials
        Whom keys and tokens prove callers to be.
    """

    def __init__(self, settings: Settings, counters: Counters | None = None) -> None:
        self.settings = settings
        self._counters = counters or OwnCounters()
        self.requests = RequestCounts()
        self.quotas = Quotas(settings.quota_per_minute, self._counters)
        self.audit = AuditBuffer()
        self._services: Services | None = None
        self._opening = asyncio.Lock()
        self._opening_ahead: asyncio.Task[None] | None = None
        self.credentials = Credentials(self.services)
        self._probe: asyncio.Task[None] | None = None
        self.is_draining = False

    def make_kernel_key(self, role: Role) -> str:
        """Make the key with which this server's kernels act for the notebook's owner."""
        key, record = make_key()
        self.credentials.accept(record, Principal(self.settings.owner, "kernel", role=role))
        return key

    def known(self, secret: str) -> Principal | None:
        """Return whom a key or token proves, from memory and for a prediction; None says nothing.

        See :meth:`mlserve_jupyter.accounts.credentials.Credentials.known`.
        """
        return self.credentials.known(secret)

    async def authenticate(self, secret: str) -> Principal:
        """Return whom a key or token proves.

        Raises
        ------
        Unauthenticated
            Nobody.
        Overloaded, StorageUnavailable
            The database cannot be asked.
        """
        return await self.credentials.authenticate(secret)

    @property
    def open_services(self) -> Services | None:
        """The services, if they are open."""
        return self._services

    async def services(self) -> Services:
        """Return the open services; the first call opens them.

        Raises
        ------
        SchemaUnknown, StorageUnavailable, StorageFull, SettingsInvalid
            If the database cannot be used.
        """
        if self._services is None:
            async with self._opening:
                if self._services is None:
                    self._services = await self._open()
        return self._services

    def open_ahead(self) -> None:
        """Open the services in the background, if they may have models to load before a call.

        An error is logged, and the first request tries again.
        """
        self._opening_ahead = asyncio.create_task(self._open_for_models())

    async def check_ready(self) -> None:
        """Return if predictions can be served.

        Raises
        ------
        MLServeError
            If not, saying why.
        """
        if self.is_draining:
            raise Unavailable("This server is about to stop: send requests to another one.")
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask_database())
            # Whoever waits for it gets its error; where all have given up, nobody needs it.
            self._probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait_for(asyncio.shield(self._probe), READY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise StorageUnavailable(
                f"The database has not answered within {READY_TIMEOUT_S:g} s."
            ) from None

    def apply(self, settings: Settings) -> None:
        """Go on with other limits and deadlines; what was built with others stays as it is."""
        self.settings = settings
        self.quotas.default_limit = settings.quota_per_minute
        if self._services is not None:
            self._services.predictor.apply(settings)
            self._services.deployer.apply(settings)
            self._services.workers.apply(settings)
            self._services.registration.apply(settings)
            self._services.alerts.apply(settings)

    def measure(self) -> Measurement:
        """Return what this process measures."""
        from mlserve_jupyter.serving.measurement import (
            Measurement,
            measure,
            measure_requests,
            resident_bytes,
        )

        services = self._services
        if services is None:
            return Measurement(
                requests=measure_requests(self.requests), resident_bytes=resident_bytes()
            )
        return measure(
            self.requests,
            services.catalog,
            services.workers,
            services.predictor,
            services.log,
            services.results,
            services.maintenance,
            services.alerts,
            services.engine,
            self.settings,
        )

    def begin_drain(self) -> None:
        """Be ready no more, while everything goes on being answered."""
        self.is_draining = True

    async def _ask_database(self) -> None:
        services = await self.services()
        await asyncio.to_thread(services.registry.check_database)
        services.log.check_space()

    async def _open_for_models(self) -> None:
        try:
            if await asyncio.to_thread(_may_load_ahead, self.settings):
                await self.services()
        except MLServeError as error:
            log.warning("No model is loaded ahead of its calls: %s", error)
        except Exception:
            # Nobody awaits this, so that it would go unseen.
            log.exception("No model is loaded ahead of its calls.")

    async def aclose(self) -> None:
        """Write what the log still holds, and end all processes and connections."""
        if self._opening_ahead is not None:
            await self._opening_ahead
        async with self._opening:
            services, self._services = self._services, None
        await self.credentials.aclose()
        self.quotas.close()
        await asyncio.to_thread(self.audit.close)
        if services is not None:
            await services.aclose()

    async def _open(self) -> Services:
        from mlserve_jupyter.services import open_services

        return await open_services(
            self.settings, self._counters, self.credentials, self.quotas, self.audit
        )


def _may_load_ahead(settings: Settings) -> bool:
    """Return whether models are kept warm and one was ever deployed, without the database."""
    if not settings.keep_warm_models:
        return False
    return bool(settings.artifacts_url) or any(settings.artifacts_dir.glob("*/*/v*"))
