"""A proxy between a client and a real server, which plays the network that breaks in between."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of none: a close is a reset


class TcpProxy:
    """Forwards TCP connections to a server, until it is told otherwise.

    It runs an event loop in a thread of its own; all methods may be called from any other thread.

    Parameters
    ----------
    target
        The server: ``(host, port)``, or the path of a Unix socket.

    Attributes
    ----------
    port
        Where it listens, on 127.0.0.1; the same over its whole life.
    delay_s
        How long each piece of data waits before it goes on, in either direction.
    """

    def __init__(self, target: tuple[str, int] | Path) -> None:
        self._target = target
        self.delay_s = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    def black_hole(self) -> None:
        """Forward nothing: connections stay open, new ones are taken, and no answer comes.

        What is sent meanwhile is not lost, as a network would send it again: it goes on its way
        after :meth:`heal`.
        """
        self._soon(self._open.clear)

    def heal(self) -> None:
        """Forward again, and listen again."""
        self._call(self._listen())
        self._soon(self._open.set)

    def cut(self) -> None:
        """Reset all connections; new ones are forwarded."""
        self._soon(self._reset_all)

    def refuse(self) -> None:
        """Reset all connections, and refuse new ones until :meth:`heal`."""
        self._call(self._stop_listening())
        self._soon(self._reset_all)

    @property
    def n_connections(self) -> int:
        """Connections of clients that are open."""
        return len(self._connections) // 2

    def close(self) -> None:
        """End it, and all its connections."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, *of_the_exception: object) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def _soon(self, callback: Callable[[], object]) -> None:
        async def call() -> None:
            callback()

        self._call(call())

    async def _listen(self) -> None:
        if self._server is None:
            if self._listener.fileno() == -1:
                self._listener = socket.create_server(("127.0.0.1", self.port))
            self._server = await asyncio.start_server(self._take, sock=self._listener)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            back, onward = await self._connect()
            self._connections.add(onward)
            directions = [
                asyncio.ensure_future(self._forward(reader, onward)),
                asyncio.ensure_future(self._forward(back, writer)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or this proxy ends: the client sees its connection end
        finally:
            for end in filter(None, (writer, onward)):
                self._connections.discard(end)
                end.close()
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(str(self._target))
        return await asyncio.open_connection(*self._target)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open.wait()
                sink.write(data)
                await sink.drain()

    def _reset_all(self) -> None:
        for end in tuple(self._connections):
            sock = end.get_extra_info("socket")
            if sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()

    async def _close(self) -> None:
        await self._stop_listening()
        self._reset_all()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
