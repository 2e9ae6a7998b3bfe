"""The rooms of the platform, open: what they are, and in which order they are opened and closed."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mlserve_jupyter.threads import in_answering_thread

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from mlserve_jupyter.accounts.announcements import Announcements
    from mlserve_jupyter.accounts.audit_buffer import AuditBuffer
    from mlserve_jupyter.accounts.counters import Counters
    from mlserve_jupyter.accounts.credential_store import CredentialStore
    from mlserve_jupyter.accounts.credentials import Credentials
    from mlserve_jupyter.accounts.principal import Principal
    from mlserve_jupyter.accounts.quotas import Quotas
    from mlserve_jupyter.accounts.redis_counters import RedisCounters
    from mlserve_jupyter.accounts.registration import Registration
    from mlserve_jupyter.accounts.sessions import Sessions
    from mlserve_jupyter.accounts.sign_in import SignIn
    from mlserve_jupyter.analytics.alerts import Alerts
    from mlserve_jupyter.analytics.live_histograms import LiveHistograms
    from mlserve_jupyter.analytics.maintenance import Maintenance, PeriodicJob
    from mlserve_jupyter.analytics.prediction_log import PredictionLog
    from mlserve_jupyter.analytics.reports import Reports
    from mlserve_jupyter.registry.registry import Registry
    from mlserve_jupyter.serving.deploy import Deployer
    from mlserve_jupyter.serving.keep_warm import KeepWarm
    from mlserve_jupyter.serving.live_catalog import LiveCatalog
    from mlserve_jupyter.serving.local_copies import LocalCopies
    from mlserve_jupyter.serving.predict import Predictor
    from mlserve_jupyter.serving.result_cache import ResultCache
    from mlserve_jupyter.serving.workers import WorkerPool
    from mlserve_jupyter.settings import Settings
    from mlserve_jupyter.storage.blobs import ArtifactStore
    from mlserve_jupyter.storage.replica import ReportReads
    from mlserve_jupyter.storage.users import User

T = TypeVar("T")

MAX_WRITERS = 4
"""Threads that change the registry; a database takes one writer after the other anyway."""

ARTIFACTS_SWEPT_EVERY_S = 6 * 3600.0

MAX_USERS_KNOWN = 50_000
"""Callers whose users are kept in memory."""


@dataclass(frozen=True)
class Services:
    """The rooms, open.

    Attributes
    ----------
    owner
        ``Settings.owner``.
    engine, store, registry, log, reports, alerts
        Synchronous; called in threads.
    maintenance, host_maintenance
        Have threads of their own: what one process of all on the database does, and what one of
        each machine does.
    credentials, catalog, workers, results, predictor, keep_warm, deployer, sign_in, registration
        Of the event loop; ``results`` is None where the result cache is off.
    """

    owner: str
    engine: Engine
    credentials: Credentials
    store: ArtifactStore
    registry: Registry
    catalog: LiveCatalog
    log: PredictionLog
    live_histograms: LiveHistograms
    reports: Reports
    workers: WorkerPool
    copies: LocalCopies
    results: ResultCache | None
    predictor: Predictor
    keep_warm: KeepWarm
    redis_counters: RedisCounters | None
    deployer: Deployer
    sign_in: SignIn
    registration: Registration
    alerts: Alerts
    maintenance: Maintenance
    host_maintenance: Maintenance
    _reads: ReportReads
    _writers: ThreadPoolExecutor
    _users: dict[Principal, User] = field(default_factory=dict)

    async def user(self, principal: Principal) -> User:
        """Return the platform user that a caller is.

        Raises
        ------
        PermissionDenied
            An administrator has disabled the user.
        """
        found = self._users.get(principal)
        if found is None:
            from mlserve_jupyter.accounts.owners import find_user_of, user_of

            found = await in_answering_thread(find_user_of, self.engine, principal, self.owner)
            if found is None:
                found = await self.write(user_of, self.engine, principal, self.owner)
            if len(self._users) >= MAX_USERS_KNOWN:
                self._users.clear()
            self._users[principal] = found
        return found

    def known_user(self, principal: Principal) -> User | None:
        """Return the platform user that a caller is, from memory; None says nothing."""
        return self._users.get(principal)

    def forget_users(self) -> None:
        """Ask the database again who callers are."""
        self._users.clear()

    async def change(self, change: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a method of the registry that writes, and see the result at once.

        The arguments are those of ``change``, hence ``Any``.
        """
        result = await self.write(change, *arguments, **options)
        await self.catalog.changed()
        return result

    async def change_access(self, change: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call what changes somebody's access and raises the epoch of the accounts.

        When this returns, this process acts on it already. The arguments are those of ``change``,
        hence ``Any``.
        """
        result = await self.write(change, *arguments, **options)
        await self.credentials.changed()
        return result

    async def write(self, write: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call what may wait for another writer in a thread that nothing else needs."""
        call = functools.partial(write, *arguments, **options)
        return await asyncio.get_running_loop().run_in_executor(self._writers, call)

    async def aclose(self) -> None:
        """Close what was opened, in reverse."""
        await asyncio.to_thread(self.maintenance.close)
        await asyncio.to_thread(self.host_maintenance.close)
        await self.deployer.aclose()
        await self.keep_warm.aclose()
        await self.predictor.aclose()
        await self.workers.aclose()
        await self.copies.aclose()
        if self.results is not None:
            await self.results.aclose()
        await self.catalog.aclose()
        if self.redis_counters is not None:
            await self.redis_counters.aclose()
        await asyncio.to_thread(self.log.close)
        await asyncio.to_thread(self.live_histograms.close)
        await asyncio.to_thread(self.sign_in.close)
        await asyncio.to_thread(self._writers.shutdown)
        await asyncio.to_thread(self.store.close)
        await asyncio.to_thread(self._reads.close)
        await asyncio.to_thread(self.engine.dispose)


async def open_services(
    settings: Settings,
    counters: Counters,
    credentials: Credentials,
    quotas: Quotas,
    audit: AuditBuffer,
) -> Services:
    """Open the rooms and start what runs in them.

    Parameters
    ----------
    settings
        Everything that can be set.
    counters
        Where attempts are counted on this machine.
    credentials, quotas, audit
        Of the process, at work since before the database was opened; they learn of it here.

    Raises
    ------
    SchemaUnknown, StorageUnavailable, StorageFull, SettingsInvalid
        If the database cannot be used.
    """
    storage = await asyncio.to_thread(_open_storage, settings)
    from mlserve_jupyter.accounts.attempt_counters import AttemptCounters
    from mlserve_jupyter.accounts.keys import KEY_PREFIX
    from mlserve_jupyter.accounts.passwords import PasswordHasher
    from mlserve_jupyter.accounts.registration import Registration
    from mlserve_jupyter.accounts.sign_in import SignIn
    from mlserve_jupyter.accounts.throttle import throttles
    from mlserve_jupyter.analytics.alerts import open_alerts
    from mlserve_jupyter.analytics.maintenance import Maintenance
    from mlserve_jupyter.analytics.reports import Reports
    from mlserve_jupyter.serving.deploy import Deployer
    from mlserve_jupyter.serving.keep_warm import KeepWarm
    from mlserve_jupyter.serving.local_copies import LocalCopies
    from mlserve_jupyter.serving.predict import Predictor
    from mlserve_jupyter.serving.workers import WorkerPool

    audit.start(storage.engine)
    workers = WorkerPool(settings, settings.data_dir / "log")
    results = await asyncio.to_thread(_open_results, settings, storage.cache_secret)
    redis_counters = await asyncio.to_thread(_open_redis_counters, settings)
    if redis_counters is not None:
        quotas.share_through(redis_counters)
    copies = LocalCopies(storage.store, settings)
    predictor = Predictor(storage.catalog, workers, storage.log, settings, copies, results)
    keep_warm = KeepWarm(storage.catalog, workers, predictor, storage.log, settings, audit)
    keep_warm.start()
    writers = ThreadPoolExecutor(MAX_WRITERS, "mlserve-writer")
    passwords = PasswordHasher()
    bounds = throttles(AttemptCounters(counters, redis_counters))
    alerts = await asyncio.to_thread(open_alerts, storage.engine, settings, KEY_PREFIX)
    # What is here now stays: the collector need not walk through all of Jupyter again and
    # again while requests make garbage.
    gc.freeze()
    services = Services(
        owner=settings.owner,
        engine=storage.engine,
        credentials=credentials,
        store=storage.store,
        registry=storage.registry,
        catalog=storage.catalog,
        log=storage.log,
        live_histograms=storage.live_histograms,
        reports=Reports(storage.engine, storage.reads),
        workers=workers,
        copies=copies,
        results=results,
        predictor=predictor,
        keep_warm=keep_warm,
        redis_counters=redis_counters,
        deployer=Deployer(storage.registry, storage.catalog, workers, settings),
        sign_in=SignIn(
            engine=storage.engine,
            threads=writers,
            sessions=storage.sessions,
            passwords=passwords,
            throttle=bounds.sign_in,
            audit=audit,
            when_changed=credentials.changed,
        ),
        registration=Registration(
            engine=storage.engine,
            threads=writers,
            passwords=passwords,
            throttle=bounds.registration,
            settings=settings,
        ),
        alerts=alerts,
        maintenance=Maintenance(storage.engine, [*_jobs(storage, settings), alerts.job()]),
        host_maintenance=Maintenance(
            storage.engine, alerts.host_jobs(), name=f"host {socket.gethostname()}"
        ),
        _reads=storage.reads,
        _writers=writers,
    )
    services.maintenance.start()
    if alerts.host_jobs():
        services.host_maintenance.start()
    credentials.when_changed(services.forget_users)
    accounts, registry = await asyncio.to_thread(_open_announcements, settings)
    credentials.start(storage.credential_store, accounts)
    storage.catalog.start(registry)
    return services


@dataclass(frozen=True)
class _Storage:
    engine: Engine
    reads: ReportReads
    sessions: Sessions
    credential_store: CredentialStore
    store: ArtifactStore
    registry: Registry
    catalog: LiveCatalog
    log: PredictionLog
    live_histograms: LiveHistograms
    cache_secret: bytes


def _open_storage(settings: Settings) -> _Storage:
    """Open the database and read the registry; runs in a thread, since it imports and waits."""
    from mlserve_jupyter.accounts.credential_store import CredentialStore
    from mlserve_jupyter.accounts.sessions import Sessions
    from mlserve_jupyter.accounts.token_secret import derived_secret, read_or_make_token_secret
    from mlserve_jupyter.accounts.tokens import AccessTokens
    from mlserve_jupyter.analytics.live_histograms import LiveHistograms
    from mlserve_jupyter.analytics.prediction_log import PredictionLog
    from mlserve_jupyter.analytics.rollups import count_calls
    from mlserve_jupyter.registry.registry import Registry
    from mlserve_jupyter.serving.live_catalog import LiveCatalog
    from mlserve_jupyter.storage.blobs import open_artifacts
    from mlserve_jupyter.storage.engine import open_engine
    from mlserve_jupyter.storage.replica import ReportReads
    from mlserve_jupyter.storage.schema import prepare_schema

    secret = read_or_make_token_secret(settings.data_dir)
    engine = open_engine(settings)
    prepare_schema(engine)
    store = open_artifacts(settings)
    registry = Registry(engine, store)
    registry.sweep()
    catalog = LiveCatalog(registry, settings.catalog_poll_s)
    live_histograms = LiveHistograms(engine)
    observers = (count_calls, live_histograms.observe)
    log = PredictionLog(engine, settings, settings.data_dir / "log", observers)
    return _Storage(
        engine=engine,
        reads=ReportReads(engine, settings),
        sessions=Sessions(engine, secret),
        credential_store=CredentialStore(engine, AccessTokens(secret)),
        store=store,
        registry=registry,
        catalog=catalog,
        log=log,
        live_histograms=live_histograms,
        cache_secret=derived_secret(secret, "result cache"),
    )


def _jobs(storage: _Storage, settings: Settings) -> list[PeriodicJob]:
    """Return what one process of all on this database does from time to time."""
    from mlserve_jupyter.accounts.expired import FORGET_EVERY_S, forget_expired
    from mlserve_jupyter.analytics import rollups
    from mlserve_jupyter.analytics.drift import FOLD_EVERY_S, fold_old_days
    from mlserve_jupyter.analytics.labels import FORGET_EVERY_S as LABELS_EVERY_S
    from mlserve_jupyter.analytics.labels import forget_labels_without_call
    from mlserve_jupyter.analytics.maintenance import PeriodicJob
    from mlserve_jupyter.archiving import CHECK_S, Archiver
    from mlserve_jupyter.storage.partitions import MAKE_EVERY_S, keep_partitions

    engine = storage.engine
    jobs = [
        PeriodicJob("rollups", rollups.FOLD_EVERY_S, functools.partial(rollups.fold, engine)),
        PeriodicJob("expiry", rollups.EXPIRE_EVERY_S, functools.partial(rollups.expire, engine)),
        PeriodicJob("partitions", MAKE_EVERY_S, lambda may_go_on: keep_partitions(engine)),
        PeriodicJob("retention", CHECK_S, Archiver(settings, engine).run),
        PeriodicJob("expired", FORGET_EVERY_S, lambda may_go_on: forget_expired(engine)),
        PeriodicJob(
            "labels", LABELS_EVERY_S, functools.partial(forget_labels_without_call, engine)
        ),
        PeriodicJob("histograms", FOLD_EVERY_S, functools.partial(fold_old_days, engine)),
    ]
    if storage.store.is_shared:
        jobs.append(PeriodicJob("artifacts", ARTIFACTS_SWEPT_EVERY_S, storage.registry.sweep_sent))
    return jobs


def _open_redis_counters(settings: Settings) -> RedisCounters | None:
    """Connect the counters to Redis, if there is one; in a thread, since it imports a client."""
    if not settings.redis_url:
        return None
    from mlserve_jupyter.accounts.redis_counters import RedisCounters

    return RedisCounters(settings.redis_url)


def _open_results(settings: Settings, secret: bytes) -> ResultCache | None:
    """Build the result cache, if there is to be one; in a thread, since it may import a client."""
    if settings.result_cache == "off":
        return None
    from mlserve_jupyter.cache.tiered import open_cache
    from mlserve_jupyter.serving.result_cache import ResultCache

    cache = open_cache(settings, secret)
    return ResultCache(cache, ttl_s=settings.cache_ttl_s, always=settings.result_cache == "on")


def _open_announcements(
    settings: Settings,
) -> tuple[Announcements | None, Announcements | None]:
    """Give what tells of changes of the accounts and of the registry, where there is a Redis.

    Runs in a thread, since it imports a client.
    """
    if not settings.redis_url:
        return None, None
    from mlserve_jupyter.accounts.announcements import ACCOUNTS, REGISTRY, Announcements

    return Announcements(settings.redis_url, ACCOUNTS), Announcements(settings.redis_url, REGISTRY)
