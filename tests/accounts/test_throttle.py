"""The throttles, counted in this process and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis

from mlserve_jupyter.accounts.attempt_counters import AttemptCounters
from mlserve_jupyter.accounts.counters import OwnCounters
from mlserve_jupyter.accounts.redis_counters import RedisCounters
from mlserve_jupyter.accounts.throttle import (
    ACCOUNT_LIMIT,
    ADDRESS_LIMIT,
    PAIR_LIMIT,
    REGISTRATION_LIMIT,
    RegistrationThrottle,
    SignInThrottle,
)
from mlserve_jupyter.errors import StorageUnavailable, TooManyAttempts, Unauthenticated
from tests.cache.redis_process import RedisProcess

ACCOUNT = "ada@example.org"
PATIENCE_S = 5.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    yield process
    process.kill()


async def fail(throttle: SignInThrottle, address: str, account: str = ACCOUNT) -> None:
    with pytest.raises(Unauthenticated):
        async with throttle.attempt(address, account):
            raise Unauthenticated("wrong")


async def succeed(throttle: SignInThrottle, address: str, account: str = ACCOUNT) -> None:
    async with throttle.attempt(address, account):
        pass


async def is_refused(throttle: SignInThrottle, address: str, account: str = ACCOUNT) -> bool:
    try:
        await succeed(throttle, address, account)
    except TooManyAttempts as error:
        return 1 <= error.retry_after_s <= 900
    return False


def test_row_12_guessing_from_one_address_is_refused_before_the_password_is_checked() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        for _ in range(PAIR_LIMIT.amount):
            await fail(throttle, "192.0.2.1")
        assert await is_refused(throttle, "192.0.2.1")
        assert not await is_refused(throttle, "192.0.2.2"), "others are let in"
        assert not await is_refused(throttle, "192.0.2.1", "grace@example.org")

    asyncio.run(check())


def test_row_12_one_address_cannot_walk_through_accounts() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        for i in range(ADDRESS_LIMIT.amount):
            await fail(throttle, "192.0.2.1", f"{i}@example.org")
        assert await is_refused(throttle, "192.0.2.1", "another@example.org")

    asyncio.run(check())


def test_row_12_guessing_from_many_addresses_is_refused_and_the_owner_comes_in() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        await succeed(throttle, "198.51.100.7")
        for i in range(ACCOUNT_LIMIT.amount):
            await fail(throttle, f"192.0.2.{i}")
        assert await is_refused(throttle, "192.0.2.200")
        assert not await is_refused(throttle, "198.51.100.7"), "from where the owner has been"

    asyncio.run(check())


def test_row_12_many_attempts_at_once_are_not_all_let_in() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        begun = 0

        async def guess() -> None:
            nonlocal begun
            async with throttle.attempt("192.0.2.1", ACCOUNT):
                begun += 1
                await asyncio.sleep(0.01)
                raise Unauthenticated("wrong")

        results = await asyncio.gather(*(guess() for _ in range(100)), return_exceptions=True)
        assert begun == PAIR_LIMIT.amount
        assert sum(isinstance(result, TooManyAttempts) for result in results) == 100 - begun

    asyncio.run(check())


def test_addresses_of_one_ipv6_subscriber_are_one() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        for i in range(PAIR_LIMIT.amount):
            await fail(throttle, f"2001:db8:0:1::{i:x}")
        assert await is_refused(throttle, "2001:db8:0:1:ffff::1")
        assert not await is_refused(throttle, "2001:db8:0:2::1")

    asyncio.run(check())


def test_what_is_not_about_the_password_counts_as_no_failure() -> None:
    async def check() -> None:
        throttle = SignInThrottle(AttemptCounters(OwnCounters()))
        for _ in range(2 * PAIR_LIMIT.amount):
            with pytest.raises(StorageUnavailable):
                async with throttle.attempt("192.0.2.1", ACCOUNT):
                    raise StorageUnavailable("away")
            await succeed(throttle, "192.0.2.1")
        assert not await is_refused(throttle, "192.0.2.1")

    asyncio.run(check())


def test_registrations_from_one_address_are_bounded() -> None:
    async def check() -> None:
        throttle = RegistrationThrottle(AttemptCounters(OwnCounters()))
        for _ in range(REGISTRATION_LIMIT.amount):
            await throttle.check("192.0.2.1")
        with pytest.raises(TooManyAttempts):
            await throttle.check("192.0.2.1")
        await throttle.check("192.0.2.2")

    asyncio.run(check())


def test_servers_on_one_redis_count_together(redis: RedisProcess) -> None:
    async def check() -> None:
        shared = [RedisCounters(redis.url, PATIENCE_S) for _ in range(2)]
        one, other = (SignInThrottle(AttemptCounters(OwnCounters(), each)) for each in shared)
        for _ in range(PAIR_LIMIT.amount):
            await fail(one, "192.0.2.1")
        assert await is_refused(other, "192.0.2.1")
        for each in shared:
            await each.aclose()

    asyncio.run(check())


def test_row_12_without_redis_each_process_keeps_to_its_share(redis: RedisProcess) -> None:
    async def check() -> None:
        shared = RedisCounters(redis.url, PATIENCE_S)
        throttle = SignInThrottle(AttemptCounters(OwnCounters(n_processes=2), shared))
        await fail(throttle, "192.0.2.1")
        redis.kill()
        for _ in range(PAIR_LIMIT.amount // 2 - 1):
            await fail(throttle, "192.0.2.1")
        assert await is_refused(throttle, "192.0.2.1")
        await shared.aclose()

    asyncio.run(check())


NO_COUNTS = (b"abc", b"1e3", b"nan", b"\xff", b"-100000000", b"9" * 30, b"1" * 100_000, b"0")


def write_over_counts(redis: RedisProcess, value: bytes) -> None:
    with Redis.from_url(redis.url) as client:
        for key in client.keys("*mlserve:count:*"):
            client.set(key, value, ex=900)


@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: value[:10].decode("latin-1"))
def test_whatever_is_written_over_counts_in_redis_no_more_is_let_in_and_nothing_fails(
    redis: RedisProcess, value: bytes
) -> None:
    async def check() -> None:
        shared = RedisCounters(redis.url, PATIENCE_S)
        throttle = SignInThrottle(AttemptCounters(OwnCounters(), shared))
        registrations = RegistrationThrottle(AttemptCounters(OwnCounters(), shared))
        await fail(throttle, "192.0.2.1")
        await registrations.check("192.0.2.1")
        n_failures, n_registrations = 1, 1
        for _ in range(2 * REGISTRATION_LIMIT.amount):
            write_over_counts(redis, value)
            shared._ask_again_at_s = 0.0
            with suppress(TooManyAttempts, Unauthenticated):
                async with throttle.attempt("192.0.2.1", ACCOUNT):
                    n_failures += 1
                    raise Unauthenticated("wrong")
            shared._ask_again_at_s = 0.0
            with suppress(TooManyAttempts):
                await registrations.check("192.0.2.1")
                n_registrations += 1
        assert n_failures <= PAIR_LIMIT.amount
        assert n_registrations <= REGISTRATION_LIMIT.amount
        assert await is_refused(throttle, "192.0.2.1")
        await shared.aclose()

    asyncio.run(check())


def test_a_count_that_is_none_is_one_for_which_this_machine_counts(redis: RedisProcess) -> None:
    async def check() -> None:
        shared = RedisCounters(redis.url, PATIENCE_S)
        throttle = SignInThrottle(AttemptCounters(OwnCounters(), shared))
        await fail(throttle, "192.0.2.1")
        write_over_counts(redis, b"abc")
        await succeed(throttle, "192.0.2.1")
        assert not shared.is_open
        for _ in range(PAIR_LIMIT.amount - 1):
            await fail(throttle, "192.0.2.1")
        assert await is_refused(throttle, "192.0.2.1")
        await shared.aclose()

    asyncio.run(check())
