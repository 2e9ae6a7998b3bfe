"""Throttles of what guesses could be tried at: sign-in, and registration.

Failures are counted, not successes, so that many people behind one address do not shut each other
out. An account that is being guessed at from everywhere is closed to addresses from which nobody
has signed in to it, and stays open to those from which its owner has: nobody can lock an owner out
by failing on purpose.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mlserve_jupyter.accounts.attempt_counters import AttemptCounters, AttemptLimit
from mlserve_jupyter.errors import TooManyAttempts, Unauthenticated

PAIR_LIMIT = AttemptLimit("pair", 10, 15 * 60)
"""Failures at one account from one address."""

ADDRESS_LIMIT = AttemptLimit("address", 50, 15 * 60)
"""Failures from one address at any accounts."""

ACCOUNT_LIMIT = AttemptLimit("account", 30, 15 * 60)
"""Failures at one account from addresses that it does not know."""

REGISTRATION_LIMIT = AttemptLimit("registration", 20, 3600)
"""Attempts to register from one address, whether they succeed or not."""

KNOWN_FOR = AttemptLimit("known", 1, 30 * 86400)
"""For how long an account knows an address from which somebody signed in to it."""

IPV6_PREFIX = 64
"""What one subscriber has of IPv6 addresses, which are counted as one."""


class SignInThrottle:
    """Bounds failed attempts to prove who one is: a login, or the old password at its change.

    Parameters
    ----------
    counters
        Where failures are counted.
    """

    def __init__(self, counters: AttemptCounters) -> None:
        self._counters = counters
        self._in_flight: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def attempt(self, address: str, account: str) -> AsyncIterator[None]:
        """Make an attempt: the block that checks the password, and raises where it is wrong.

        A block that raises :class:`~mlserve_jupyter.errors.Unauthenticated` is a failure, and one
        that ends is a success; any other error counts as neither.

        Parameters
        ----------
        address
            The client's, from ``server.client_address``.
        account
            What the caller calls it, such as an email in lower case; whether there is such an
            account makes no difference.

        Raises
        ------
        TooManyAttempts
            Before the block, if there were too many failures.
        """
        limits = await self._limits(address, account)
        keys = [(limit.name, key) for limit, key in limits]
        # Those that run count as failures for now, so that a thousand at once are not let in.
        self._in_flight.update(keys)
        running = [self._in_flight[name] for name in keys]
        try:
            for (limit, key), n_running in zip(limits, running, strict=True):
                if not await self._counters.is_within(limit, key, n_running):
                    raise _refusal(await self._counters.reset_after_s(limit, key))
            yield
        except Unauthenticated:
            for limit, key in limits:
                await self._counters.add(limit, key)
            raise
        else:
            await self._counters.add(KNOWN_FOR, _key(address, account))
        finally:
            self._in_flight.subtract(keys)
            for name in keys:
                if not self._in_flight[name]:
                    del self._in_flight[name]

    async def _limits(self, address: str, account: str) -> list[tuple[AttemptLimit, str]]:
        pair = _key(address, account)
        limits: list[tuple[AttemptLimit, str]] = [
            (PAIR_LIMIT, pair),
            (ADDRESS_LIMIT, _key(address)),
        ]
        is_unknown = await self._counters.is_within(KNOWN_FOR, pair, 1)
        return [*limits, (ACCOUNT_LIMIT, _key("", account))] if is_unknown else limits


class RegistrationThrottle:
    """Bounds how many accounts are asked for from one address.

    Parameters
    ----------
    counters
        Where attempts are counted.
    """

    def __init__(self, counters: AttemptCounters) -> None:
        self._counters = counters

    async def check(self, address: str) -> None:
        """Count an attempt to register.

        Raises
        ------
        TooManyAttempts
            If there were too many.
        """
        key = _key(address)
        if not await self._counters.is_within(REGISTRATION_LIMIT, key, 1):
            raise _refusal(await self._counters.reset_after_s(REGISTRATION_LIMIT, key))
        await self._counters.add(REGISTRATION_LIMIT, key)


@dataclass(frozen=True)
class Throttles:
    """Both."""

    sign_in: SignInThrottle
    registration: RegistrationThrottle


def throttles(counters: AttemptCounters) -> Throttles:
    """Return the throttles that count there."""
    return Throttles(SignInThrottle(counters), RegistrationThrottle(counters))


def _refusal(retry_after_s: int) -> TooManyAttempts:
    return TooManyAttempts(
        f"There were too many attempts. Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def _key(address: str, account: str = "") -> str:
    """Return a key in which neither an address nor an account can be read."""
    return hashlib.sha256(f"{_subscriber(address)}\n{account}".encode()).hexdigest()[:32]


def _subscriber(address: str) -> str:
    """Return what stands for all the addresses that one client has at its disposal."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
    return str(found)
