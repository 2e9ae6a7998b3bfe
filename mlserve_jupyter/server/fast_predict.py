"""The short way of a prediction into the server, past tornado's ``RequestHandler``.

It takes the plain case alone: a small POST to ``api/v1/predict/{model}`` that this process's memory
can admit at once by a key or token of ours, which no identity of the host's has a part in. All
other requests go to the route table, and what goes wrong after all is answered by the ordinary
handler, so that a caller cannot tell the two ways apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    format_timestamp,
)
from tornado.routing import AnyMatches, Router, Rule
from tornado.web import Application

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quotas import Quota
from mlserve_jupyter.errors import MLServeError, Overloaded, PermissionDenied
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.client_address import client_address
from mlserve_jupyter.server.credentials import sole_secret
from mlserve_jupyter.server.errors import error_body, status_of
from mlserve_jupyter.server.policy import check_scope, policy_of
from mlserve_jupyter.server.predict import Failure, PredictResource
from mlserve_jupyter.server.resource import BODY_TIMEOUT_S, request_id_of
from mlserve_jupyter.services import Services
from mlserve_jupyter.serving.call_record import CallRecord, PredictRequest
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.users import User

_UNUSUAL = frozenset(("Content-Encoding", "Expect", "Origin", "Transfer-Encoding", "Upgrade"))
"""Headers that only the ordinary handler, or the host behind it, knows what to do with."""

MAX_BYTES = 64 * 1024
"""Larger bodies gain next to nothing from the short way."""

_MAX_LENGTH_DIGITS = len(str(MAX_BYTES))


def _at_once(step: Callable[[], None]) -> None:
    step()


class FastPredict(Router):
    """Finds the requests that can go the short way.

    Parameters
    ----------
    application
        The route table that it stands in front of.
    handler
        The ordinary handler of the route, mixed with the host's.
    allows_host
        Whether a request is meant for this server, by the host's own rules.
    note
        Takes note of what was answered, as the host does for all requests.
    take
        Takes a step of a call now, or soon where others wait for the event loop.
    """

    def __init__(
        self,
        application: Application,
        handler: type[PredictResource],
        *,
        allows_host: Callable[[HTTPServerRequest], bool],
        note: Callable[[FastCall], None],
        take: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        policy = policy_of(handler.post)
        assert policy is not None
        self.application = application
        self.handler = handler
        self.note = note
        self.take = take
        self.platform = cast(Platform, application.settings["mlserve_platform"])
        self._policy = policy
        self._allows_host = allows_host
        self._prefix = application.settings["mlserve_base_path"] + "api/v1/predict/"
        self._head: AnswerHead | None = None
        self._head_settings: Settings | None = None

    def install(self) -> None:
        """Stand in front of the route table from now on.

        Where the host transforms answers, only its handlers can.
        """
        if not self.application.transforms:
            self.application.default_router.rules.insert(0, Rule(AnyMatches(), self))

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> StreamedCall | None:
        """Return what answers a request the short way; None for the route table."""
        if request.method != "POST" or not self.is_plain(request):
            return None
        admitted = self.admit(sole_secret(request.headers))
        return None if admitted is None else StreamedCall(self, admitted, request)

    def head(self, call: FastCall) -> AnswerHead:
        """Return the head of all answers; the first one is found out by way of a call."""
        settings = self.platform.settings
        if self._head is None or self._head_settings is not settings:
            self._head = AnswerHead(self.handler(self.application, call.request))
            self._head_settings = settings
        return self._head

    def model_of(self, path: str) -> str:
        """Return the model that a plain request's path names."""
        return path[len(self._prefix) :]

    def is_plain(self, request: HTTPServerRequest) -> bool:
        """Whether a POST is a prediction that needs no more than a look."""
        if not request.path.startswith(self._prefix):
            return False
        headers = request.headers
        model = self.model_of(request.path)
        length = headers.get("Content-Length", "")
        return (
            request.version == "HTTP/1.1"
            and not request.query
            and "/" not in model
            and "%" not in model
            and model != ""
            and _UNUSUAL.isdisjoint(headers)
            and headers.get("Connection", "keep-alive").lower() == "keep-alive"
            and len(length) <= _MAX_LENGTH_DIGITS
            and length.isascii()
            and length.isdigit()
            and 0 < int(length) <= min(MAX_BYTES, self.platform.settings.max_body_bytes)
            and self._allows_host(request)
        )

    def admit(self, secret: str | None) -> Admitted | None:
        """Return who calls, if memory knows and lets the caller in; else the ordinary handler asks.

        A request that is one too many is not counted, and so is refused there, too.
        """
        services = self.platform.open_services
        if services is None or self.platform.is_draining:
            return None
        principal = None if secret is None else self.platform.known(secret)
        if principal is None:
            return None
        try:
            check_scope(self._policy, principal)
        except PermissionDenied:
            return None
        user = services.known_user(principal)
        if user is None:
            return None
        quota = self.platform.quotas.take(principal)
        return None if quota.is_exceeded else Admitted(services, principal, user, quota)

    def knows(self, secret: str) -> bool:
        """Whether memory knows a credential, and its user."""
        services, principal = self.platform.open_services, self.platform.known(secret)
        return (
            services is not None
            and principal is not None
            and services.known_user(principal) is not None
        )

    async def learn(self, secret: str) -> None:
        """Have memory know a credential, if it is good; who refuses it is the ordinary handler."""
        with contextlib.suppress(MLServeError):
            services = await self.platform.services()
            await services.user(await self.platform.authenticate(secret))


class Admitted(NamedTuple):
    """Who calls, and what is left of the quota."""

    services: Services
    principal: Principal
    user: User
    quota: Quota


class FastCall(ABC):
    """One request on the short way; who holds the connection says how it is answered.

    Attributes
    ----------
    request_id, principal, call, n_bytes_written, is_caller_gone
        As the ordinary handler has them, for the logs.
    status
        Of the answer; errors are the ordinary handler's, but for what crowds are refused by.
    """

    def __init__(self, door: FastPredict, admitted: Admitted, request_id: str) -> None:
        self.request_id = request_id
        self.principal = admitted.principal
        self.call: CallRecord | None = None
        self.n_bytes_written = 0
        self.is_caller_gone = False
        self.status = 200
        self._door = door
        self._admitted = admitted
        self._task: asyncio.Future[bytes] | None = None

    @property
    @abstractmethod
    def request(self) -> HTTPServerRequest:
        """The request, as the logs and the ordinary handler see it."""

    @property
    def client_address(self) -> str:
        """Where the request comes from; empty for a peer without an address."""
        return client_address(self.request, self._door.platform.settings.trusted_proxies)

    def get_status(self) -> int:
        """Return the status of the answer."""
        return self.status

    @abstractmethod
    def send(self, answer: bytes) -> None:
        """Send a whole answer, head and all, and go on to the next request."""

    def begin(self, model: str, body: bytes, content_type: str) -> bool:
        """Answer a request that is here in whole; whether that was done at once."""
        request = PredictRequest(
            request_id=self.request_id,
            principal=str(self.principal),
            user=self._admitted.user,
            model=model,
            version=None,
            method=None,
            body=body,
            content_type=content_type,
            note_call=self._note_call,
        )
        try:
            answer = self._admitted.services.predictor.start(request)
        except Exception as error:
            # Whatever it is, the ordinary handler knows what to answer, and what to log.
            self._fail(error)
            return True
        if isinstance(answer, bytes):
            self._answer(answer)
            return True
        self._task = asyncio.ensure_future(answer)
        self._task.add_done_callback(self._done)
        return False

    def give_up(self) -> None:
        """Take note that the caller has gone, so that the call does not reach the model."""
        self.is_caller_gone = True
        if self._task is not None:
            self._task.cancel()

    def _note_call(self, call: CallRecord) -> None:
        self.call = call

    def _done(self, task: asyncio.Future[bytes]) -> None:
        self._door.take(lambda: self._settle(task))

    def _settle(self, task: asyncio.Future[bytes]) -> None:
        if task.cancelled() or self.is_caller_gone:
            self._door.note(self)
        elif (error := task.exception()) is not None:
            self._fail(error)
        else:
            self._answer(task.result())

    def _answer(self, body: bytes, *fields: tuple[str, str]) -> None:
        door = self._door
        fields = (*self._admitted.quota.headers(), *fields)
        if door.platform.is_draining:
            fields = (*fields, ("Connection", "close"))
        self.n_bytes_written = len(body)
        head = door.head(self).of(self.request_id, len(body), fields, self.status)
        self.send(head + body)
        door.platform.requests.note(door.handler.route, "POST", self.status)
        door.note(self)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, Overloaded):
            # A refusal must cost less than an answer, or a crowd would leave no time for answers.
            self.status = status_of(error)
            body = error_body(error, self.request_id)
            self._answer(body, ("Retry-After", str(error.retry_after_s)))
            return
        admitted = self._admitted
        failure = Failure(error, self.request_id, self.principal, admitted.quota, self.call)
        door, request = self._door, self.request
        ordinary = door.application.get_handler_delegate(
            request, door.handler, {"failure": failure}
        )
        ordinary.headers_received(
            RequestStartLine("POST", request.uri or "", request.version), request.headers
        )


class StreamedCall(FastCall, HTTPMessageDelegate):
    """A request on one of tornado's connections."""

    def __init__(self, door: FastPredict, admitted: Admitted, request: HTTPServerRequest) -> None:
        super().__init__(door, admitted, request_id_of(request.headers))
        self._request = request
        self._connection = cast(HTTP1Connection, request.connection)
        self._body = b""
        self._timer = asyncio.get_running_loop().call_later(BODY_TIMEOUT_S, self._cut)

    @property
    def request(self) -> HTTPServerRequest:
        """The request, as tornado has made it."""
        return self._request

    def data_received(self, chunk: bytes) -> None:
        """Collect the body, whose length was announced and is small."""
        self._body = self._body + chunk if self._body else chunk

    def finish(self) -> None:
        """Answer: the request is here in whole."""
        self._timer.cancel()
        self._connection.set_close_callback(self.give_up)
        self._door.take(self._begin)

    def _begin(self) -> None:
        if self.is_caller_gone:
            self._door.note(self)
            return
        model = self._door.model_of(self._request.path)
        self.begin(model, self._body, self._request.headers.get("Content-Type", ""))

    def on_connection_close(self) -> None:
        """Forget a request that was cut off before its end."""
        self._timer.cancel()

    def send(self, answer: bytes) -> None:
        """Write a whole answer."""
        self._connection.set_close_callback(None)
        self._connection.write(answer)
        self._connection.finish()

    def _cut(self) -> None:
        self._connection.stream.close()


class AnswerHead:
    """The status line and the headers of answers, which are the ordinary handler's.

    Parameters
    ----------
    handler
        An ordinary handler that has answered nothing yet.
    """

    def __init__(self, handler: PredictResource) -> None:
        fields = dict(handler.answer_headers())
        fields["Date"] = "%b"
        fields["X-Request-Id"] = "%b"
        fields["Content-Length"] = "%d"
        lines = [
            f"{name}: {value if value in ('%b', '%d') else value.replace('%', '%%')}"
            for name, value in fields.items()
        ]
        self._pattern = "\r\n".join(["HTTP/1.1 %d %b", *lines, ""]).encode("latin1")
        self._date = b""
        self._second = 0

    def of(
        self,
        request_id: str,
        n_bytes: int,
        fields: Sequence[tuple[str, str]],
        status: int = 200,
    ) -> bytes:
        """Return the head of an answer with a body of ``n_bytes``, and further fields."""
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, format_timestamp(second).encode()
        phrase = HTTPStatus(status).phrase.encode()
        head = self._pattern % (status, phrase, self._date, request_id.encode(), n_bytes)
        for name, value in fields:
            head += f"{name}: {value}\r\n".encode("latin1")
        return head + b"\r\n"
