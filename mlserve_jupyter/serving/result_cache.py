"""The result cache: where the same artifact was asked the same before, the answer is there.

The fourth room on the walk of a prediction, between the checked input and the worker. A key names
everything that an answer depends on, so an entry is never stale; entries end only to make room.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from mlserve_jupyter.api.packed import SealedBatch
from mlserve_jupyter.api.resources import CacheRefusal, DescribeCacheUse
from mlserve_jupyter.cache.protocol import Cache
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.cache_worth import CacheWorth
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.protocol import Batch
from mlserve_jupyter.serving.replies import Reply, WorkerError
from mlserve_jupyter.threads import in_answering_thread
from mlserve_jupyter.version import __version__

KEY_PREFIX = "mlserve:result:2:"
"""The number goes up when the form of the values changes."""

DIGEST_INLINE_BYTES = 256 * 1024
"""The input of larger bodies is digested in a thread, so that the event loop serves others."""

MAX_USES = 4096

_NO_REPLY = Reply()
_INPUT = msgspec.msgpack.Encoder()
_COLUMNS = msgspec.json.Decoder(list[str] | None)
_COLUMNS_SIZE = struct.Struct(">I")

Outcome = Answer | MLServeError | None
"""What became of a computation that several wait for; None where its caller gave up."""


class ResultCache:
    """Answers of immutable versions, by input.

    Parameters
    ----------
    cache
        Where the answers are.
    ttl_s
        How long an answer is kept at most.
    always
        Whether the cache is asked even where computing is cheaper.
    """

    def __init__(self, cache: Cache, *, ttl_s: float, always: bool = False) -> None:
        self._cache = cache
        self._ttl_s = ttl_s
        self._always = always
        self._uses: OrderedDict[tuple[str, str, str], CacheUse] = OrderedDict()
        self._flights: dict[str, asyncio.Future[Outcome]] = {}
        self._n_lookups_before: Counter[str] = Counter()  # of uses that are forgotten

    def ask(self, version: ServedVersion, method: str, batch: Batch, n_bytes: int) -> Question:
        """Begin a call: ask what is in this process's memory, unless asking would cost more.

        Parameters
        ----------
        n_bytes
            Of the body that the input came in; the digest of a large one waits for :meth:`answer`.
        """
        use = self._use(version, method)
        if use.refusal is not None or not (use.worth.wants_lookup() or self._always):
            use.n_bypassed += 1
            return Question(use, is_bypassed=True)
        question = Question(use, is_bypassed=False)
        if n_bytes <= DIGEST_INLINE_BYTES:
            question.note_digest(input_digest(batch))
            self._look_near(question)
        return question

    async def answer(
        self, question: Question, batch: Batch, compute: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Return the answer to checked input, computed only if it has to be.

        Parameters
        ----------
        question
            What :meth:`ask` gave for this input.
        compute
            Runs the method. What it raises is raised, and never kept.
        """
        if question.answer is not None:
            return question.answer
        if question.key is None and not question.is_bypassed:
            question.note_digest(await in_answering_thread(input_digest, batch))
        if question.key is None:
            return await _timed(question.use, compute)
        while (flight := self._flights.get(question.key)) is not None:
            outcome = await asyncio.shield(flight)
            if isinstance(outcome, MLServeError):
                raise outcome
            if outcome is not None:
                question.use.n_hits += 1
                return _from_elsewhere(outcome.body, outcome.columns, outcome.error)
        return await self._look_up(question.use, question.key, question.asked_at_s, compute)

    def describe(self, version: ServedVersion) -> list[DescribeCacheUse]:
        """Return what this process did for the methods of a version that were called."""
        uses = (
            (method, self._uses.get((version.id, version.runtime, method)))
            for method in version.methods
        )
        return [use.describe(method, self._always) for method, use in uses if use is not None]

    def n_lookups(self) -> Counter[str]:
        """Return how many calls were a hit, a miss, or bypassed the cache."""
        found = Counter(self._n_lookups_before)
        for use in self._uses.values():
            found.update(use.n_lookups)
        return found

    async def aclose(self) -> None:
        """Close the cache."""
        await self._cache.aclose()

    def _use(self, version: ServedVersion, method: str) -> CacheUse:
        # A version that has been compiled since answers at another price, and under other keys.
        key = version.id, version.runtime, method
        use = self._uses.get(key)
        if use is None:
            use = self._uses[key] = CacheUse(version, method)
            if len(self._uses) > MAX_USES:
                _, gone = self._uses.popitem(last=False)
                self._n_lookups_before.update(gone.n_lookups)
        return use

    def _look_near(self, question: Question) -> None:
        value = None if question.key is None else self._cache.peek(question.key)
        question.answer = None if value is None else _read(value)
        if question.answer is not None:
            use = question.use
            use.n_hits += 1
            use.worth.note_lookup(time.perf_counter() - question.asked_at_s, hit=True)

    async def _look_up(
        self, use: CacheUse, key: str, started: float, compute: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Ask the cache, and compute if it has nothing, while equal calls wait for the outcome."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        outcome: Outcome = None
        try:
            outcome = await self._stored(key)
            if outcome is not None:
                use.n_hits += 1
                use.worth.note_lookup(time.perf_counter() - started, hit=True)
                return outcome
            use.n_misses += 1
            asked_s = time.perf_counter() - started
            outcome = await _timed(use, compute)
            started = time.perf_counter()
            self._keep(key, outcome)
            use.worth.note_lookup(asked_s + time.perf_counter() - started, hit=False)
            return outcome
        except MLServeError as error:
            outcome = error
            raise
        finally:
            del self._flights[key]
            if not flight.done():
                flight.set_result(outcome)

    async def _stored(self, key: str) -> Answer | None:
        found = await self._cache.get(key)
        return None if found is None else _read(found[0])

    def _keep(self, key: str, answer: Answer) -> None:
        if answer.error is None:
            self._cache.put(key, _write(answer), self._ttl_s)


class Question:
    """What a call asks the cache, as far as it goes without waiting.

    Attributes
    ----------
    is_bypassed
        Whether the cache is not to be asked.
    key
        None where the cache is not asked, or the input's digest is not known yet.
    answer
        What was in this process's memory.
    asked_at_s
        ``time.perf_counter()`` at the beginning.
    """

    __slots__ = ("answer", "asked_at_s", "is_bypassed", "key", "use")

    def __init__(self, use: CacheUse, *, is_bypassed: bool) -> None:
        self.use = use
        self.is_bypassed = is_bypassed
        self.key: str | None = None
        self.answer: Answer | None = None
        self.asked_at_s = time.perf_counter()

    def note_digest(self, digest: str | None) -> None:
        """Take the input's digest; one without a canonical form is not looked for."""
        if digest is None:
            self.is_bypassed = True
            self.use.n_bypassed += 1
        else:
            self.key = self.use.prefix + digest

    def note_computed(self, seconds: float) -> None:
        """Take note of what computing took, where the cache was not asked."""
        self.use.worth.compute.add(seconds)


class CacheUse:
    """What the cache does for one method of one version.

    Attributes
    ----------
    refusal
        Why its answers must not be kept, or None.
    prefix
        The key's part that is the same for all inputs.
    n_hits, n_misses, n_bypassed
        Calls that were answered without the model, that were computed after a look-up, and that
        were computed without one.
    """

    def __init__(self, version: ServedVersion, method: str) -> None:
        self.refusal = _refusal(version, method)
        self.prefix = f"{KEY_PREFIX}{version.sha256}:{method}:{_variant(version)}:"
        self.worth = CacheWorth()
        self.n_hits = self.n_misses = self.n_bypassed = 0

    @property
    def n_lookups(self) -> dict[str, int]:
        """The calls by their outcome."""
        return {"hit": self.n_hits, "miss": self.n_misses, "bypassed": self.n_bypassed}

    def describe(self, method: str, always: bool) -> DescribeCacheUse:
        """Return the wire form."""
        refusal: CacheRefusal | None = self.refusal
        if refusal is None and not (self.worth.pays or always):
            refusal = "cheap"
        return DescribeCacheUse(
            method=method,
            used=refusal is None,
            refusal=refusal,
            n_hits=self.n_hits,
            n_misses=self.n_misses,
            n_bypassed=self.n_bypassed,
            lookup_ms=self.worth.lookup.milliseconds,
            compute_ms=self.worth.compute.milliseconds,
        )


def input_digest(batch: Batch) -> str | None:
    """Return a digest of checked input, equal for two bodies that mean the same.

    None where there is no canonical form of a value. Sealed batches are digested as they are: one
    has another digest than the same values in the clear, which costs a look-up and no more.

    Notes
    -----
    MessagePack keeps apart what Python keeps apart (``1``, ``1.0`` and ``True``; NaN and None), and
    not what a worker does not tell apart (tuples and lists). It has no integers beyond 64 bits and
    no lone surrogates; ``json`` has both, and differs from MessagePack in its first byte.
    """
    if isinstance(batch, SealedBatch):
        return "sealed:" + hashlib.sha256(batch.payload).hexdigest()
    try:
        try:
            canonical = _INPUT.encode(batch)
        except (OverflowError, UnicodeEncodeError):
            canonical = json.dumps((batch.columns, batch.rows)).encode()
    except TypeError:
        return None
    return hashlib.sha256(canonical).hexdigest()


def _write(answer: Answer) -> bytes:
    """Return an answer as it is kept: the columns' size, the columns, and the body as it is."""
    columns = msgspec.json.encode(answer.columns)
    return _COLUMNS_SIZE.pack(len(columns)) + columns + answer.body


def _read(value: bytes) -> Answer:
    body_at = _COLUMNS_SIZE.size + _COLUMNS_SIZE.unpack_from(value)[0]
    columns = _COLUMNS.decode(value[_COLUMNS_SIZE.size : body_at])
    return _from_elsewhere(value[body_at:], columns, None)


def _from_elsewhere(body: bytes, columns: list[str] | None, error: WorkerError | None) -> Answer:
    """Return an answer for which this call did not run the model."""
    return Answer(_NO_REPLY, body, columns, error, queue_ms=0.0, n_calls=0, cached=True)


async def _timed(use: CacheUse, compute: Callable[[], Awaitable[Answer]]) -> Answer:
    started = time.perf_counter()
    answer = await compute()
    if answer.error is None and not answer.reply.is_new:
        use.worth.compute.add(time.perf_counter() - started)
    return answer


def _refusal(version: ServedVersion, method: str) -> CacheRefusal | None:
    """Return why a method's answers must not be kept, or None."""
    if method in version.not_deterministic:
        return "not_deterministic"
    if not version.verification.verified or method not in version.verification.methods:
        return "not_verified"
    return None


def _variant(version: ServedVersion) -> str:
    """Return a digest of what an answer depends on beside the artifact, the method and the input.

    The same artifact may be deployed with another signature, under another interpreter or with
    another runtime, and answers of one owner's processes are none of another's business. What a
    deploy has compiled is its own.
    """
    facts = (
        __version__,
        version.owner_id,
        version.signature.inputs,
        version.environment,
        None if version.runtime == "native" else version.id,
    )
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]
