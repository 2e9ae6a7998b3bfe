"""What all handlers have in common, in whichever host they run.

A :class:`Resource` is mixed with the host's handler class (see ``routes.py``). On each request it
bounds the body, takes our credential off it, lets the host do its own checks, finds the principal,
and asks the method's policy; only then does the method run.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import msgspec
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.web import HTTPError, RequestHandler

from mlserve_jupyter.accounts.audit import AuditEvent, Facts, Origin
from mlserve_jupyter.accounts.keys import key_id
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quotas import UNLIMITED, Quota
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    InvalidBody,
    InvalidRequest,
    MLServeError,
    PermissionDenied,
    TooLarge,
    Unauthenticated,
)
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.client_address import client_address
from mlserve_jupyter.server.cors import allowed_origin, answer_preflight, set_cors_headers
from mlserve_jupyter.server.credentials import (
    Credential,
    take_credential,
    unusable_credential,
)
from mlserve_jupyter.server.documentation import SecuritySchemes, documented
from mlserve_jupyter.server.errors import error_body, http_error_body, status_of
from mlserve_jupyter.server.misfits import misfit
from mlserve_jupyter.server.policy import Policy, check_scope, policy_of, public
from mlserve_jupyter.server.query_arguments import QueryArguments
from mlserve_jupyter.server.request_context import REQUEST_ID

if TYPE_CHECKING:

    class _Host(RequestHandler):
        """What a resource is mixed with."""

        security_schemes: ClassVar[SecuritySchemes]

        def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
            """Whether the host lets pages of the request's origin call."""
            ...

        async def host_principal(self, policy: Policy) -> Principal:
            """Return whom the host itself knows the caller to be, and allows to do this."""
            ...
else:
    _Host = object

log = logging.getLogger(__name__)

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_MAX_LENGTH_DIGITS = 18
_READ_IF_REFUSED_BYTES = 64 * 1024
_MAX_LOGGED_CHARS = 200
SMALL_BODY_BYTES = 2**20
BODY_TIMEOUT_S = 60.0


def request_id_of(headers: HTTPHeaders) -> str:
    """Return the id that the caller wants, or a new one: 32 hexadecimal digits.

    The first 12 of a new one are the time in ms, so that new ones go to one end of the index by
    which the prediction log finds them; the others are random.
    """
    wanted = headers.get("X-Request-Id")
    if wanted is not None and _REQUEST_ID.fullmatch(wanted):
        return wanted
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Resource(QueryArguments, _Host):
    """The base of all resources.

    Attributes
    ----------
    route
        The pattern that leads here, as the metrics call it.
    principal
        The caller; None on public routes.
    request_id
        The caller's ``X-Request-Id`` if it is one, else a new one; in every answer and log line.
    """

    route: ClassVar[str] = ""
    body_timeout_s: ClassVar[float] = BODY_TIMEOUT_S

    principal: Principal | None = None
    request_id: str = ""
    _credential: Credential | None = None
    _is_admitted: bool = False
    _refusal: Exception | None = None
    _quota: Quota = UNLIMITED

    @property
    def platform(self) -> Platform:
        """The platform that the host has built."""
        return cast(Platform, self.settings["mlserve_platform"])

    @property
    def methods(self) -> list[str]:
        """The methods that this route takes."""
        return [name for name in self.SUPPORTED_METHODS if policy_of(getattr(self, name.lower()))]

    @property
    def caller(self) -> Principal:
        """The caller, on routes that require one."""
        assert self.principal is not None
        return self.principal

    @property
    def policy(self) -> Policy | None:
        """What the method asks of its caller; None for one that is not there."""
        return policy_of(getattr(type(self), (self.request.method or "GET").lower()))

    @property
    def may_take_long(self) -> bool:
        """Whether no warning is due where the request takes longer than ``slow_request_s``."""
        return False

    @property
    def client_address(self) -> str:
        """Where the request comes from; empty for a peer without an address."""
        return client_address(self.request, self.platform.settings.trusted_proxies)

    @property
    def origin(self) -> Origin:
        """Where the events of this request come from, for the audit log."""
        caller = self.principal
        address = self.client_address
        if caller is None:
            return Origin("", None, "none", address, self.request_id)
        return Origin(
            caller.user,
            caller.user_id,
            caller.via,
            address,
            self.request_id,
            caller.credential_id,
        )

    @property
    def max_body_bytes(self) -> int:
        """The largest body that this route reads."""
        return SMALL_BODY_BYTES

    def set_default_headers(self) -> None:
        """Let the host set its headers, then ours."""
        super().set_default_headers()
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        if origins := self.platform.settings.cors_origins:
            set_cors_headers(self, origins)

    def set_cors_headers(self) -> None:
        """Send none of Jupyter's: other origins are not its to allow here."""

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Whether a page of this origin may call; without our credential, the host decides."""
        policy = self.policy
        needs_no_cookie = self._credential is not None or (policy is not None and policy.is_public)
        if needs_no_cookie and allowed_origin(self, self.platform.settings.cors_origins):
            return True
        return super().check_origin(origin_to_satisfy_tornado)

    def initialize(self) -> None:
        """Give the request its id; some are refused before :meth:`prepare`."""
        super().initialize()
        self.request_id = request_id_of(self.request.headers)

    async def prepare(self) -> None:
        """Admit the request, or refuse it before its body is read.

        A small body is read all the same: to close a connection on what the caller is still
        sending would take the answer along.
        """
        REQUEST_ID.set(self.request_id)
        try:
            await self.admit()
        except (MLServeError, HTTPError) as refusal:
            if not self._has_small_body():
                self._is_admitted = False
                raise
            self._refusal = refusal
            vars(self)[(self.request.method or "GET").lower()] = self._refuse

    def _refuse(self, *args: str, **kwargs: str) -> None:
        """Stand in for the method of a request that was not admitted."""
        assert self._refusal is not None
        raise self._refusal

    def _has_small_body(self) -> bool:
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        return (
            re.fullmatch(r"[0-9]{1,6}", length, re.ASCII) is not None
            and int(length) <= _READ_IF_REFUSED_BYTES
            and not {"Transfer-Encoding", "Expect"} & headers.keys()
        )

    async def admit(self) -> None:
        """Find out who calls, and whether the method may run.

        Raises
        ------
        MLServeError, HTTPError
            If not.
        """
        self.set_header("X-Request-Id", self.request_id)
        self._body = bytearray()
        self._credential = take_credential(self.request)
        self._bound_body()
        result = super().prepare()
        if result is not None:
            await result
        if self._finished:
            return
        policy = self.policy
        if policy is not None and not policy.is_public:
            self.principal = await self._find_principal(policy)
            self._take_quota(self.principal)
            check_scope(policy, self.principal)
            if policy.scope == "admin":
                await self._check_administrator(self.principal)
            self.check_query()
        self._is_admitted = True

    async def _find_principal(self, policy: Policy) -> Principal:
        if self._credential is None:
            return await self.host_principal(policy)
        secret = self._credential.secret
        if not secret:
            raise unusable_credential(secret)
        # Predictions alone go on for a while where the database is away.
        known = self.platform.known(secret) if policy.scope == "predict" else None
        return known or await self.platform.authenticate(secret)

    def _take_quota(self, principal: Principal) -> None:
        self._quota = self.platform.quotas.take(principal)
        self._set_quota_headers()
        if self._quota.is_exceeded:
            raise self._quota.error()

    def _set_quota_headers(self) -> None:
        for name, value in self._quota.headers():
            self.set_header(name, value)

    async def _check_administrator(self, principal: Principal) -> None:
        services = await self.platform.services()
        if (await services.user(principal)).role != "admin":
            raise PermissionDenied("This is for administrators: ask one of them.")

    def check_xsrf_cookie(self) -> None:
        """Skip the check only where the credential came in a header, and was not a cookie.

        Without any identity there is nothing to forge: such a request is refused by its policy, and
        told that it lacks a credential.
        """
        nobody = getattr(self, "_jupyter_current_user", self) is None
        if self._credential is None and not nobody:
            super().check_xsrf_cookie()

    def _bound_body(self) -> None:
        connection = cast(HTTP1Connection, self.request.connection)
        limit = self.max_body_bytes
        connection.set_max_body_size(max(2 * limit, _READ_IF_REFUSED_BYTES))
        connection.set_body_timeout(self.body_timeout_s)
        length = self.request.headers.get("Content-Length", "0")
        if not re.fullmatch(r"[0-9]+", length, re.ASCII):
            raise InvalidRequest(f"Content-Length must be one number, not {length[:40]!r}.")
        # Its digits are compared first: Python reads no numbers of thousands of digits.
        if len(length.lstrip("0")) > _MAX_LENGTH_DIGITS or int(length) > limit:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        limit = self.max_body_bytes
        return TooLarge(f"The body is over the limit of {limit} bytes of this route.", limit=limit)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Collect the body within its bounds."""
        if self._finished or self._refusal is not None:
            return None
        if len(self._body) + len(chunk) > self.max_body_bytes:
            self._body.clear()
            self.refuse(self._too_large())
            return None
        self._body += chunk
        return None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return bytes(self._body)

    def decode_body(self, kind: type[T]) -> T:
        """Decode a JSON body into a wire type.

        Raises
        ------
        InvalidBody
            Saying where it does not fit.
        """
        try:
            return msgspec.json.decode(self._body, type=kind)
        except msgspec.ValidationError as error:
            said = misfit(kind, error)
            raise InvalidBody(said or f"The body does not fit: {error}.") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidBody(f"The body is not JSON: {error}.") from None

    def answer(self, value: Any, status: int = 200) -> None:
        """Finish with a wire type (any of them, hence ``Any``) or with JSON bytes."""
        self.set_status(status)
        self.finish(value if isinstance(value, bytes) else encode_json(value))

    def answer_headers(self) -> list[tuple[str, str]]:
        """Return the headers that every answer has."""
        return list(self._headers.get_all())

    def refuse(self, error: MLServeError) -> None:
        """Finish with an error before the body has come in whole."""
        self.set_status(status_of(error))
        self.set_header("Connection", "close")
        self.finish(error_body(error, self.request_id))

    @documented(summary="Ask what other origins may do", answers={204: None})
    @public
    def options(self, *args: str, **kwargs: str) -> None:
        """Answer what a page of another origin may send here, if it may send anything."""
        answer_preflight(self, self.platform.settings.cors_origins, self.methods)
        self.set_status(204)
        self.finish()

    def on_finish(self) -> None:
        """Count the request."""
        method = self.request.method or ""
        if method not in self.SUPPORTED_METHODS:
            method = "other"  # callers can make up as many as they like
        self.platform.requests.note(self.route, method, self.get_status())
        self._warn_if_slow()
        super().on_finish()

    def _warn_if_slow(self) -> None:
        limit_s = self.platform.settings.slow_request_s
        duration_s = self.request.request_time()
        if not limit_s or duration_s < limit_s or self.may_take_long:
            return
        log.warning(
            "%s %s took %.0f ms: status %d (request %s)",
            self.request.method,
            self.request.path[:_MAX_LOGGED_CHARS],
            duration_s * 1e3,
            self.get_status(),
            self.request_id,
            extra={"request_id": self.request_id, "total_ms": round(duration_s * 1e3, 3)},
        )

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log what was not expected, with the request's id."""
        if isinstance(value, MLServeError | HTTPError):
            return
        log.error(
            "%s %s failed (request %s)",
            self.request.method,
            self.request.path,
            self.request_id,
            exc_info=(typ, value, tb) if typ and value else None,
        )

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """Answer with an error, or cut the connection of an answer that has begun.

        Nobody then takes a part for the whole; ``kwargs`` is tornado's.
        """
        if self._headers_written and not self._finished:
            cast(HTTP1Connection, self.request.connection).stream.close()
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write the one error body; ``kwargs`` is tornado's."""
        error = (kwargs.get("exc_info") or (None, None))[1]
        self._note_refusal(error)
        self._set_quota_headers()
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Request-Id", self.request_id)
        if not self._is_admitted and self._refusal is None:
            # The body was not read, so what follows on this connection is not the next request.
            self.set_header("Connection", "close")
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.methods))
        if isinstance(error, Unauthenticated):
            self.set_header("WWW-Authenticate", 'Bearer realm="mlserve"')
        if isinstance(error, MLServeError):
            self.set_status(status_of(error))
            retry_after_s = getattr(error, "retry_after_s", None)
            if retry_after_s is not None:
                self.set_header("Retry-After", str(retry_after_s))
            self.finish(error_body(error, self.request_id))
        else:
            self.finish(http_error_body(status_code, self.request_id))

    def _note_refusal(self, error: BaseException | None) -> None:
        """Hand to the audit log what an administrator wants to know of."""
        facts: Facts = {}
        if isinstance(error, Unauthenticated) and self._credential is not None:
            # The public part of a key, so that its owner can be told; never the secret.
            facts["key"] = key_id(self._credential.secret or "")
        elif isinstance(error, PermissionDenied | ArtifactCorrupt):
            facts["message"] = error.message
        elif not (isinstance(error, HTTPError) and error.status_code == 403):
            return
        outcome = error.code if isinstance(error, MLServeError) else PermissionDenied.code
        target = f"{self.request.method} {self.request.path}"
        self.platform.audit.note(AuditEvent(self.origin, "request", target, outcome, facts))
