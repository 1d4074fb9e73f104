"""Opens a socket to a server, and shakes hands on it. Written once for threads and event loops."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from .target import Address, RedisTarget

_RETRY_S = 0.005
Found: TypeAlias = tuple[int, int, int, str, Any]
"""One of what `socket.getaddrinfo` returns."""


class SocketWaits(Protocol):
    """What waits while a socket is being opened: a connection that blocks its thread, or is driven by a loop."""

    async def resolve(self, host: str, port: int) -> Sequence[Found]: ...
    async def until(self, connection: socket.socket, event: int) -> None:
        """Until it is ready: to be written to (POLLOUT), or to be read from (POLLIN)."""
        ...

    async def pause(self, seconds: float) -> None: ...


async def opened_socket(target: RedisTarget, address: Address, waits: SocketWaits) -> socket.socket:
    """A socket that does not block, on which commands can be sent. Raises OSError."""
    if isinstance(address, str):
        return await _connected(socket.AF_UNIX, address, waits)
    failure: OSError | None = None
    for family, _, _, _, place in await waits.resolve(*address):
        try:
            plain = await _connected(family, place, waits)
        except TimeoutError:
            raise
        except OSError as error:
            failure = failure or error
            continue
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain if target.tls is None else await _secured(plain, target.tls, target.host, waits)
    raise failure or OSError("the name has no address")


async def _connected(family: int, place: Any, waits: SocketWaits) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        while (code := connection.connect_ex(place)) == errno.EAGAIN:
            # So says a unix socket whose server has not taken up those before.
            await waits.pause(_RETRY_S)
        if code == errno.EINPROGRESS:
            await waits.until(connection, select.POLLOUT)
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        connection.close()
        raise
    return connection


async def _secured(plain: socket.socket, tls: ssl.SSLContext, host: str | None, waits: SocketWaits) -> ssl.SSLSocket:
    connection = tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                await waits.until(connection, select.POLLIN)
            except ssl.SSLWantWriteError:
                await waits.until(connection, select.POLLOUT)
            else:
                return connection
    except BaseException:
        connection.close()
        raise
