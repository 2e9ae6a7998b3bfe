"""One server process: it opens the platform, serves, and leaves when it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import ssl
from dataclasses import dataclass

import msgspec

from mlserve_jupyter.accounts.keys import KeyRecord
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.standalone.access_log import AccessLog
from mlserve_jupyter.server.standalone.connections import DrainingServer
from mlserve_jupyter.server.standalone.handler import make_application
from mlserve_jupyter.server.standalone.hosts import HostNames
from mlserve_jupyter.server.standalone.options import HostOptions, load_certificate
from mlserve_jupyter.server.standalone.plain_connections import PlainConnections
from mlserve_jupyter.server.standalone.siblings import Member
from mlserve_jupyter.serving.measurement import Measurement, Measurements

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 20.0

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""Blocked from before a process is forked until it can obey."""


@dataclass(frozen=True)
class Orders:
    """What the parent gives a process, at its start and whenever it changes.

    Attributes
    ----------
    key
        What is kept of the key that callers must have.
    """

    options: HostOptions
    key: KeyRecord


def run(
    orders: Orders,
    listening: list[socket.socket],
    parent: socket.socket,
    member: Member | None = None,
) -> int:
    """Serve until told to leave.

    Parameters
    ----------
    listening
        Sockets of this process alone.
    parent
        New orders come over this socket as pickles; when it ends, the parent is gone.
    member
        What this process has in common with its siblings, if it has any.

    Returns
    -------
    int
        The exit code: 0 if all that was accepted was answered.
    """
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        process = ServerProcess(orders, member)
        return loop.run_until_complete(process.serve(listening, parent))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class ServerProcess:
    """A server process.

    Parameters
    ----------
    orders
        What it is to serve.
    member
        What it has in common with its siblings.
    """

    def __init__(self, orders: Orders, member: Member | None = None) -> None:
        self._options = orders.options
        self._member = member
        counters = None if member is None else member.counters
        self._platform = Platform(orders.options.settings, counters)
        self._access_log = AccessLog(orders.options.access_log)
        self._leave = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tls: ssl.SSLContext | None = orders.options.tls()
        self._host_names = HostNames(orders.options.ip, orders.options.allowed_hosts)
        self._plain: PlainConnections | None = None
        self._accept(orders.key)

    async def serve(self, listening: list[socket.socket], parent: socket.socket) -> int:
        """Serve until told to leave; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave.set)
        loop.add_signal_handler(signal.SIGINT, self.leave_at_once)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent's business
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        application, door = make_application(
            self._platform,
            self._options.base_url,
            self._host_names,
            self._access_log,
            self._measure_all,
        )
        server = DrainingServer(
            application,
            ssl_options=self._tls,
            idle_connection_timeout=self._options.keep_alive_s,
        )
        self._plain = PlainConnections(door, server.take_over, self._options.keep_alive_s)
        server.answer_plainly(self._plain)
        if self._member is not None:
            self._member.siblings.listen(self._measure)
        server.add_sockets(listening)
        background = [
            asyncio.create_task(self._open_platform()),
            asyncio.create_task(self._obey(parent)),
        ]
        await self._leave.wait()
        n_cut = await self._drain(server)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._platform.aclose(), CLOSE_TIMEOUT_S)
        self._access_log.close()
        if self._member is not None:
            self._member.siblings.close()
        return 1 if n_cut else 0

    def leave_at_once(self) -> None:
        """Leave without a time of grace."""
        self._leave.set()
        self._hurry.set()

    async def _drain(self, server: DrainingServer) -> int:
        self._platform.begin_drain()
        server.announce_end()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._options.drain_grace_s)
        n_cut = await server.drain(self._options.drain_timeout_s)
        if n_cut:
            log.error(
                "%d requests did not end within drain_timeout_s (%g s), and were cut.",
                n_cut,
                self._options.drain_timeout_s,
            )
        return n_cut

    async def _measure(self) -> bytes:
        return msgspec.msgpack.encode(self._platform.measure())

    async def _measure_all(self) -> Measurements:
        """Return what all processes of this server measure."""
        if self._member is None:
            return {"": self._platform.measure()}
        siblings = self._member.siblings
        found = {str(siblings.index): self._platform.measure()}
        for index, answer in (await siblings.ask()).items():
            found[str(index)] = msgspec.msgpack.decode(answer, type=Measurement)
        return found

    async def _open_platform(self) -> None:
        """Open the platform ahead of the first request; what fails is tried again by requests."""
        try:
            await self._platform.services()
            log.info("Ready.")
        except MLServeError as error:
            log.error("Not ready: %s", error)

    async def _obey(self, parent: socket.socket) -> None:
        """Follow new orders until the parent is gone, and then leave."""
        reader, writer = await asyncio.open_connection(sock=parent)
        try:
            while size := await _read_size(reader):
                self._follow(pickle.loads(await reader.readexactly(size)))
            log.warning("The parent process is gone.")
            self.leave_at_once()
        finally:
            writer.close()

    def _follow(self, orders: Orders) -> None:
        options = orders.options
        logging.getLogger().setLevel(options.log_level)
        try:
            self._access_log.open(options.access_log)
            if self._tls is not None:
                load_certificate(self._tls, options)
        except (MLServeError, OSError) as error:
            log.error("Some settings stay as they were: %s", error)
            return
        self._options = options
        self._host_names.allow(options.allowed_hosts)
        if self._plain is not None:
            self._plain.forget()
        self._platform.apply(options.settings)
        self._platform.credentials.forget_own()
        self._accept(orders.key)

    def _accept(self, key: KeyRecord) -> None:
        operator = Principal(self._options.settings.owner, "host", role="admin")
        self._platform.credentials.accept(key, operator)


async def _read_size(reader: asyncio.StreamReader) -> int:
    try:
        return int.from_bytes(await reader.readexactly(4), "big")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0


def send_orders(process: socket.socket, orders: Orders) -> None:
    """Send new orders to a process; the parent's end of what :class:`ServerProcess` reads."""
    data = pickle.dumps(orders)
    process.sendall(len(data).to_bytes(4, "big") + data)


def run_forked(
    orders: Orders,
    listening: list[socket.socket],
    parent: socket.socket,
    member: Member | None,
) -> None:
    """Serve in a process that was just forked with the signals of stopping blocked; end it."""
    code = 1
    try:
        os.setsid()  # the terminal's Ctrl-C goes to the parent alone
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        code = run(orders, listening, parent, member)
    except Exception:
        log.exception("The server process failed.")
    finally:
        logging.shutdown()
        os._exit(code)
