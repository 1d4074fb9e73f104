"""A connection that blocks its thread, with the GIL released and a deadline on every wait."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..._core import RedisProtocolError, RedisReader, RedisReplyError, redis_command
from ..._support.errors import StorageTimeout, StorageUnavailable
from ..._support.escaping import escaped
from ..._support.waiting import run_blocking
from .deadline import ThreadDeadline
from .opening import Found, opened_socket
from .replies import check_greetings, code_of, is_of_the_connection, storage_error
from .script import Script
from .target import Address, RedisTarget

_CHUNK = 65536
_MOST_CHUNKS = 4096


class SyncConnection:
    """A connection to a server, open from the beginning. For one thread at a time.

    Whatever goes wrong on the way closes it: what was sent but not answered is not sent again, and what is answered too
    late is never taken for the answer to something else.
    """

    def __init__(self, target: RedisTarget, locate: Callable[[float], Address] | None = None) -> None:
        """Connects to where `locate` says within some seconds, if that is given.

        Raises StorageUnavailable or StorageTimeout. Resolving a name may take longer than the deadline.
        """
        self._target = target
        self._reader = RedisReader()
        self._deadline = ThreadDeadline(target.connect_timeout_s)
        self.place = target.address if locate is None else self._located(locate)
        self._socket = self._connect(self.place)
        commands = target.greetings(is_master=locate is not None)
        if commands:
            replies = self._exchange(b"".join(redis_command(*command) for command in commands), len(commands))
            try:
                check_greetings(target.name, commands, replies)
            except StorageUnavailable:
                self.close()
                raise

    def _located(self, locate: Callable[[float], Address]) -> Address:
        half_s = self._target.connect_timeout_s / 2
        before_s = time.monotonic()
        place = locate(half_s)
        self._deadline.spend(min(time.monotonic() - before_s, half_s))
        return place

    @property
    def is_usable(self) -> bool:
        """Whether it is open and nothing came unasked, as when the server has closed it."""
        try:
            self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def evaluate(self, script: Script, tail: tuple[bytes, ...], *, is_asking: bool = False) -> Any:
        """The script's answer. Raises StorageError.

        With `is_asking` a node of a cluster answers for keys that are on their way to it.
        """
        if is_asking:
            reply = self._execute_all((b"ASKING",), (b"EVAL", script.text, *tail))[1]
        else:
            reply = self.execute(b"EVALSHA", script.sha, *tail)
        if isinstance(reply, RedisReplyError) and code_of(reply) == "NOSCRIPT":
            reply = self.execute(b"EVAL", script.text, *tail)
        if isinstance(reply, RedisReplyError):
            if is_of_the_connection(reply):
                self.close()
            raise storage_error(self._target.name, reply)
        return reply

    def execute(self, *arguments: bytes) -> Any:
        """The answer to one command; an error is a value. Raises StorageUnavailable or StorageTimeout."""
        return self._execute_all(arguments)[0]

    def _execute_all(self, *commands: tuple[bytes, ...]) -> list[Any]:
        self._deadline = ThreadDeadline(self._target.command_timeout_s)
        return self._exchange(b"".join(redis_command(*each) for each in commands), len(commands))

    def close(self) -> None:
        """Closes it. In a process that was forked, only this process's end."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()

    def _connect(self, address: Address) -> socket.socket:
        try:
            connection: socket.socket = run_blocking(opened_socket(self._target, address, self))
        except TimeoutError:
            raise self._timeout() from None
        except OSError as error:
            raise StorageUnavailable(f"{self._target.name} cannot be reached: {error}") from error
        self._polls = _polls_of(connection)
        return connection

    async def resolve(self, host: str, port: int) -> Sequence[Found]:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def until(self, connection: socket.socket, event: int) -> None:
        self._deadline.wait(_polls_of(connection)[event])

    async def pause(self, seconds: float) -> None:
        self._deadline.spend(seconds)
        time.sleep(seconds)

    def _exchange(self, data: bytes, count: int) -> list[Any]:
        replies: list[Any] = []
        try:
            self._send(data)
            for _ in range(_MOST_CHUNKS):
                chunk = self._receive()
                if not chunk:
                    raise StorageUnavailable(f"{self._target.name} has closed the connection")
                replies += self._reader.feed(chunk)
                if len(replies) > count:
                    raise StorageUnavailable(f"{self._target.name} answers what was not asked")
                if len(replies) == count:
                    return replies
            raise StorageUnavailable(f"{self._target.name} answers without end")
        except BaseException as error:
            # An interrupt leaves an answer behind, too.
            self.close()
            if isinstance(error, TimeoutError):
                raise self._timeout() from None
            if isinstance(error, RedisProtocolError):
                raise StorageUnavailable(f"{self._target.name} does not speak Redis: {escaped(error)}") from error
            if isinstance(error, OSError):
                raise StorageUnavailable(f"{self._target.name}: {error}") from error
            raise

    def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._deadline.wait(self._polls[select.POLLOUT])
            except ssl.SSLWantReadError:
                self._deadline.wait(self._polls[select.POLLIN])

    def _receive(self) -> bytes:
        # TLS may hold what the system does not see any more, so it is asked first.
        if self._target.tls is None:
            self._deadline.wait(self._polls[select.POLLIN])
        while True:
            try:
                return self._socket.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._deadline.wait(self._polls[select.POLLIN])
            except ssl.SSLWantWriteError:
                self._deadline.wait(self._polls[select.POLLOUT])

    def _timeout(self) -> StorageTimeout:
        return StorageTimeout(f"{self._target.name} has not answered within {self._deadline.limit_s * 1000:.0f} ms")


def _polls_of(connection: socket.socket) -> dict[int, select.poll]:
    polls = {event: select.poll() for event in (select.POLLIN, select.POLLOUT)}
    for event, poll in polls.items():
        poll.register(connection, event)
    return polls
