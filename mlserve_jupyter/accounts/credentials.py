"""Whom a key or a token proves a caller to be, answered from memory once it is known.

What was verified is kept under the sha256 of the credential, and is forgotten whenever the epoch
of the accounts changes, for which the database is asked each second, and when Redis says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mlserve_jupyter.accounts.key_uses import KeyUses
from mlserve_jupyter.accounts.keys import KEY_PREFIX, KeyRecord, key_id
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import MLServeError, Overloaded, StorageUnavailable, Unauthenticated

if TYPE_CHECKING:
    from mlserve_jupyter.accounts.announcements import Announcements
    from mlserve_jupyter.accounts.credential_store import CredentialStore, Finding

log = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_INTERVAL_S = 1.0
"""How often the epoch is asked for: how soon a revocation in another process is known."""

LEAST_INTERVAL_S = 0.05
"""However many announcements come, the epoch is asked for no more often."""

CURRENT_S = 5.0
"""What was confirmed so long ago is asked for again, by all but predictions."""

OUTAGE_S = 30.0
"""For how long after the last confirmation predictions go on while the database is away."""

LOOKUP_TIMEOUT_S = 3.0
MAX_LOOKUPS = 256
"""Different credentials that may wait for the database at once."""

MAX_KNOWN = 50_000
MAX_UNKNOWN = 10_000
UNKNOWN_S = 10.0
"""How long a credential that the database does not know is refused without asking again."""

_LOOKUP_THREADS = 4


@dataclass(slots=True)
class _Verified:
    principal: Principal
    expires_at_s: float


class Credentials:
    """The credentials of all callers, as one server process knows them.

    Parameters
    ----------
    open_database
        Has :meth:`start` called, at the first credential that is not this process's own.
    """

    def __init__(self, open_database: Callable[[], Awaitable[object]]) -> None:
        self._open_database = open_database
        self._store: CredentialStore | None = None
        self._own: dict[bytes, Principal] = {}
        self._verified: dict[bytes, _Verified] = {}
        self._unknown: dict[bytes, float] = {}
        self._lookups: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._when_changed: list[Callable[[], None]] = []
        self._uses = KeyUses()
        self._announcements: Announcements | None = None
        self._epoch = -1
        self._epoch_learned_at_s = self._confirmed_at_s = -float("inf")
        # Two pools: callers who wait for the database must not delay what they wait for.
        self._lookup_threads = ThreadPoolExecutor(_LOOKUP_THREADS, "mlserve-credentials")
        self._check_thread = ThreadPoolExecutor(1, "mlserve-epoch")
        self._checking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._is_away = False

    def accept(self, record: KeyRecord, principal: Principal) -> None:
        """Let whoever has this key in; it is this process's own, and in no database."""
        self._own[bytes.fromhex(record.sha256)] = principal

    def forget_own(self) -> None:
        """Accept this process's own keys no more."""
        self._own.clear()

    def when_changed(self, react: Callable[[], None]) -> None:
        """Call ``react`` whenever somebody's access may have changed."""
        self._when_changed.append(react)

    def known(self, secret: str) -> Principal | None:
        """Return whom a credential proves, from memory alone, for a prediction.

        None says nothing: ask :meth:`authenticate`. While the database is away, what it confirmed
        within the last ``OUTAGE_S`` still counts.
        """
        digest = _digest(secret)
        return self._own.get(digest) or self._recall(digest, OUTAGE_S)

    async def authenticate(self, secret: str) -> Principal:
        """Return whom a credential proves.

        Raises
        ------
        Unauthenticated
            Nobody.
        Overloaded
            Too many others are being looked up.
        StorageUnavailable
            The database does not answer.
        """
        digest = _digest(secret)
        found = self._own.get(digest) or self._recall(digest, CURRENT_S)
        if found is not None:
            return found
        if self._unknown.get(digest, 0.0) > time.monotonic() or not _is_well_formed(secret):
            raise invalid_credential()
        looking = self._lookups.get(digest)
        if looking is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise Overloaded("Too many keys and tokens wait to be verified; try again.")
            looking = asyncio.create_task(self._look_up(digest, secret))
            self._lookups[digest] = looking
            looking.add_done_callback(lambda done: self._note_end(digest, done))
        found = await asyncio.shield(looking)
        if found is None:
            raise invalid_credential()
        return found

    async def changed(self) -> None:
        """Verify all anew from now on: this process has just changed somebody's access."""
        self._forget()
        self._confirmed_at_s = -float("inf")
        if self._announcements is not None:
            self._announcements.announce()
        await self.check()

    async def check(self) -> None:
        """Ask the database for the epoch; where it does not answer, what is known ages."""
        async with self._checking:
            try:
                store = await self._opened_store()
                began_at_s = time.monotonic()
                epoch = await _within(self._check_thread, store.epoch)
            except MLServeError as error:
                if not self._is_away:
                    log.warning("Credentials cannot be verified anew: %s", error)
                self._is_away = True
                return
            self._is_away = False
            self._holds(epoch, began_at_s)

    def start(self, store: CredentialStore, announcements: Announcements | None = None) -> None:
        """Begin to watch the epoch.

        Parameters
        ----------
        store
            The database, which stays open until :meth:`aclose` has returned.
        announcements
            Through which processes tell each other of changes; None where there is no Redis.
        """
        if announcements is not None:
            announcements.listen(self._wake.set)
        self._announcements = announcements
        self._store = store
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching, and write the last uses of keys; before the database is closed."""
        if self._announcements is not None:
            await self._announcements.aclose()
        tasks = [*self._lookups.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._store is not None:
            await self._write_uses(self._store, all_of_them=True)
        for pool in (self._lookup_threads, self._check_thread):
            pool.shutdown(wait=False, cancel_futures=True)

    def _recall(self, digest: bytes, max_age_s: float) -> Principal | None:
        found = self._verified.get(digest)
        if found is None or time.monotonic() - self._confirmed_at_s > max_age_s:
            return None
        now_s = time.time()
        if found.expires_at_s <= now_s:
            del self._verified[digest]
            return None
        if found.principal.via == "key":
            self._uses.note(found.principal.credential_id, now_s)
        return found.principal

    async def _look_up(self, digest: bytes, secret: str) -> Principal | None:
        store = await self._opened_store()
        while True:
            began_at_s = time.monotonic()
            finding = await _within(self._lookup_threads, lambda: store.find(secret))
            if self._holds(finding.epoch, began_at_s):
                break
        self._remember(digest, finding)
        return finding.principal

    def _remember(self, digest: bytes, finding: Finding) -> None:
        if finding.principal is None:
            if len(self._unknown) >= MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[digest] = time.monotonic() + UNKNOWN_S
            return
        if len(self._verified) >= MAX_KNOWN:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = _Verified(finding.principal, finding.expires_at_s)
        if finding.principal.via == "key":
            self._uses.note(finding.principal.credential_id, time.time())

    def _holds(self, epoch: int, began_at_s: float) -> bool:
        """Whether what was read under this epoch still holds; forget all that no longer does.

        A lower epoch than the known one was overtaken while it was read; unless the read began
        later, where the database has been put back to an earlier state.
        """
        if epoch < self._epoch and began_at_s <= self._epoch_learned_at_s:
            return False
        if epoch != self._epoch:
            self._forget()
            self._epoch, self._epoch_learned_at_s = epoch, time.monotonic()
        self._confirmed_at_s = max(self._confirmed_at_s, began_at_s)
        return True

    def _forget(self) -> None:
        self._verified.clear()
        self._unknown.clear()
        for react in self._when_changed:
            react()

    def _note_end(self, digest: bytes, done: asyncio.Task[Principal | None]) -> None:
        self._lookups.pop(digest, None)
        if not done.cancelled():
            done.exception()  # whoever waits for it gets it; where all have left, nobody needs it

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_INTERVAL_S)
            self._wake.clear()
            try:
                await self.check()
                if self._store is not None and not self._is_away:
                    await self._write_uses(self._store)
            except Exception:  # whatever it is, revocations go on being looked for
                log.exception("Credentials cannot be verified anew.")
            await asyncio.sleep(LEAST_INTERVAL_S)

    async def _opened_store(self) -> CredentialStore:
        if self._store is None:
            await self._open_database()
        assert self._store is not None
        return self._store

    async def _write_uses(self, store: CredentialStore, *, all_of_them: bool = False) -> None:
        uses = self._uses.take(time.time(), all_of_them=all_of_them)
        if not uses:
            return
        try:
            await _within(self._lookup_threads, lambda: store.note_uses(uses))
        except MLServeError as error:
            log.warning("The uses of keys cannot be written now: %s", error)
            self._uses.give_back(uses)


def invalid_credential() -> Unauthenticated:
    """Return the one answer to all credentials that prove nothing."""
    return Unauthenticated(
        "The key or token is not valid here: it is mistyped, expired, revoked, of a disabled "
        "account, or of another server."
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _is_well_formed(secret: str) -> bool:
    """Whether a credential is worth asking the database about."""
    return key_id(secret) is not None if secret.startswith(KEY_PREFIX) else secret.count(".") == 2


async def _within(threads: ThreadPoolExecutor, ask: Callable[[], T]) -> T:
    """Ask the database in a thread, within the time-out.

    Raises
    ------
    StorageUnavailable
        It does not answer.
    """
    asked = asyncio.get_running_loop().run_in_executor(threads, ask)
    try:
        return await asyncio.wait_for(asked, LOOKUP_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise StorageUnavailable(
            f"The database has not answered within {LOOKUP_TIMEOUT_S:g} s."
        ) from None
