"""A connection that is driven by an event loop, asyncio's or uvloop's, without a thread."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from ..._core import RedisProtocolError, RedisReader, RedisReplyError, redis_command
from ..._support.errors import StorageError, StorageTimeout, StorageUnavailable
from ..._support.escaping import escaped
from .deadline import LoopDeadline
from .opening import Found, opened_socket
from .replies import Redirected, check_greetings, code_of, is_of_the_connection, storage_error
from .script import Script
from .target import Address, RedisTarget

_CHUNK = 65536
_CHUNKS_AT_ONCE = 8
_NOT_YET = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

Answer: TypeAlias = "asyncio.Future[Any]"


class AioConnection:
    """A connection to a server, from its beginning to its end. For the thread of its loop only.

    Commands of one turn of the loop leave in one write, and answers go to whoever is next: a caller who is gone keeps
    the place. Commands wait while it connects. Whatever goes wrong closes it and fails all who wait, as nobody could
    tell whose the next answer is; what was sent is never sent again. `on_failure` is told when that disappoints
    somebody, and when the server says that it cannot count now.
    """

    def __init__(
        self,
        target: RedisTarget,
        script: Script,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[StorageError], None],
        locate: Callable[[], Awaitable[Address]] | None = None,
    ) -> None:
        """Begins to connect, to where `locate` says if that is given. The name of a host is resolved by the loop's own
        threads.
        """
        self._target = target
        self._script = script
        self._loop = loop
        self._on_failure = on_failure
        self._locate = locate
        self.place: Address | None = None
        """Where it was connected to; None before that is known."""
        self._reader = RedisReader()
        self._socket: socket.socket | None = None
        self._is_ready = False
        self._is_ended = False
        self._waiting: list[tuple[Answer, Callable[[], None]]] = []  # until it is connected
        self._asked: deque[tuple[Answer, tuple[bytes, ...], int]] = deque()  # written, or about to be
        self._unwritten: list[bytes] = []
        self._rest = b""  # what the socket has not taken
        self._is_flush_due = False
        self._sent = 0  # commands written
        self._answered = 0
        self._last_eval = 0
        self._batches: deque[tuple[int, int]] = deque()  # since when all commands up to a number are waited for
        self._awaits = 0  # what the socket is to be ready for while it connects
        self._has_heard = False  # anything, since it was last looked at while it connects
        self._has_more = False  # in the socket, than was read at once
        self._deadline = LoopDeadline(loop, target.connect_timeout_s, self._look_at_opening)
        self._deadline.start()
        self._opening = loop.create_task(self._open())

    def can_ask(self) -> bool:
        """Whether it has not ended. An idle one is looked at: a loop that was busy may not know yet that it has."""
        if self._is_ready and not self._asked:
            self._on_readable()
        return not self._is_ended

    def evaluate(self, tail: tuple[bytes, ...], *, is_asking: bool = False) -> Answer:
        """The script's answer, to be awaited on this loop. Raises, or fails with, StorageError.

        With `is_asking` a node of a cluster answers for keys that are on their way to it.
        """
        answer: Answer = self._loop.create_future()
        if self._is_ready and not is_asking:
            self._send(answer, tail, redis_command(b"EVALSHA", self._script.sha, *tail))
        else:
            self._ask_when_ready(answer, partial(self._ask_anyway if is_asking else self._ask, answer, tail))
        return answer

    def execute(self, *arguments: bytes) -> Answer:
        """The answer to another command, in the same way; an error is a value."""
        answer: Answer = self._loop.create_future()
        self._ask_when_ready(answer, partial(self._send, answer, (), redis_command(*arguments)))
        return answer

    def end(self, error: StorageError) -> None:
        """Closes it, and fails all who wait with this error."""
        if self._is_ended:
            return
        was_ready = self._is_ready
        self._is_ended, self._is_ready = True, False
        self._opening.cancel()
        self._deadline.stop()
        if self._socket is not None:
            if self._socket.fileno() >= 0 and not self._loop.is_closed():
                self._loop.remove_reader(self._socket)
                self._loop.remove_writer(self._socket)
            self._socket.close()
        failed = [answer for answer, *_ in self._asked] + [answer for answer, _ in self._waiting]
        self._asked.clear()
        self._waiting.clear()
        for answer in failed:
            if not answer.done():
                answer.set_exception(type(error)(*error.args))
        # An idle connection that the server closes is no failure: who comes next opens another.
        if failed or not was_ready:
            self._on_failure(error)

    def _fail(self, what: str) -> None:
        self.end(StorageUnavailable(f"{self._target.name}{what}"))

    def abandon(self) -> None:
        """Closes this process's end without touching the loop: after a fork, or when the loop is closed."""
        self._is_ended, self._is_ready = True, False
        if self._socket is not None:
            self._socket.close()

    def __del__(self) -> None:
        self.abandon()

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        try:
            self.place = self._target.address if self._locate is None else await self._locate()
            self._socket = connection = await opened_socket(self._target, self.place, self)
            self._loop.add_reader(connection, self._on_readable)
            await self._greet(self._target.greetings(is_master=self._locate is not None))
        except StorageError as error:
            self.end(error)
        except OSError as error:
            self._fail(f" cannot be reached: {error}")
        except asyncio.CancelledError:
            self._on_failure = lambda error: None
            self._fail(": the connection was given up")
            raise
        else:
            self._start()

    def _start(self) -> None:
        if self._is_ended:
            return
        self._is_ready = True
        self._deadline.stop()
        self._deadline = LoopDeadline(self._loop, self._target.command_timeout_s, self._look_at_answers)
        waiting, self._waiting = self._waiting, []
        for answer, ask in waiting:
            if not answer.done():
                ask()

    async def resolve(self, host: str, port: int) -> Sequence[Found]:
        with contextlib.suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def until(self, connection: socket.socket, event: int) -> None:
        self._socket = connection
        ready = self._loop.create_future()
        is_reading = event == select.POLLIN
        (self._loop.add_reader if is_reading else self._loop.add_writer)(connection, self._set_heard, ready)
        self._awaits = event
        try:
            await ready
        finally:
            self._awaits = 0
            if connection.fileno() >= 0:
                (self._loop.remove_reader if is_reading else self._loop.remove_writer)(connection)

    def _set_heard(self, future: asyncio.Future[None]) -> None:
        self._has_heard = True
        if not future.done():
            future.set_result(None)

    async def _greet(self, commands: list[tuple[bytes, ...]]) -> None:
        if not commands:
            return
        answers: list[Answer] = [self._loop.create_future() for _ in commands]
        self._asked.extend((answer, (), 0) for answer in answers)
        self._unwritten += [redis_command(*command) for command in commands]
        self._flush()
        self._awaits = select.POLLIN
        replies = await asyncio.gather(*answers, return_exceptions=True)
        for reply in replies:
            if isinstance(reply, StorageError):
                raise reply
        check_greetings(self._target.name, commands, replies)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _ask_when_ready(self, answer: Answer, ask: Callable[[], None]) -> None:
        if self._is_ended:
            raise StorageUnavailable(f"{self._target.name}: the connection is closed")
        ask() if self._is_ready else self._waiting.append((answer, ask))

    def _ask(self, answer: Answer, tail: tuple[bytes, ...], name: bytes = b"EVALSHA") -> None:
        script = self._script.sha if name == b"EVALSHA" else self._script.text
        if name == b"EVAL":
            self._last_eval = self._sent + 1
        self._send(answer, tail, redis_command(name, script, *tail))

    def _ask_anyway(self, answer: Answer, tail: tuple[bytes, ...]) -> None:
        # Nobody waits for the first answer. With the text, as the script may be missing: asking holds for one command.
        permission: Answer = self._loop.create_future()
        permission.cancel()
        self._send(permission, (), redis_command(b"ASKING"))
        self._ask(answer, tail, b"EVAL")

    def _send(self, answer: Answer, tail: tuple[bytes, ...], data: bytes) -> None:
        self._sent += 1
        self._asked.append((answer, tail, self._sent))
        self._unwritten.append(data)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._is_ended or self._socket is None:
            return
        data = b"".join(self._unwritten)
        self._unwritten.clear()
        if self._is_ready:
            # From here on it is the server that is waited for; a loop that was busy before has lost no time.
            self._batches.append((self._deadline.parts, self._sent))
            self._deadline.start()
        if self._rest:
            self._rest += data
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._socket is not None
        try:
            taken = self._socket.send(data)
        except _NOT_YET:
            taken = 0
        except OSError as error:
            self._fail(f": {error}")
            return
        had_rest, self._rest = bool(self._rest), data[taken:]
        if self._rest and not had_rest:
            self._loop.add_writer(self._socket, lambda: self._write(self._rest))
        elif had_rest and not self._rest:
            self._loop.remove_writer(self._socket)

    # --- being answered -----------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        assert self._socket is not None
        self._has_heard = True
        self._has_more = False
        # TLS holds back what the selector does not see any more: all of it is taken, but not without end.
        for _ in range(_CHUNKS_AT_ONCE):
            try:
                data = self._socket.recv(_CHUNK)
                replies = self._reader.feed(data) if data else []
            except _NOT_YET:
                break
            except OSError as error:
                self._fail(f": {error}")
                return
            except RedisProtocolError as error:
                self._fail(f" does not speak Redis: {escaped(error)}")
                return
            if not data:
                self._fail(" has closed the connection")
                return
            for reply in replies:
                if not self._asked:
                    self._fail(" answers what was not asked")
                    return
                answer, tail, number = self._asked.popleft()
                if tail and type(reply) is RedisReplyError:
                    self._settle_error(answer, tail, number, reply)
                    if self._is_ended:
                        return
                elif not answer.done():
                    answer.set_result(reply)
                self._answered = number or self._answered
            if len(data) < _CHUNK and self._target.tls is None:
                break
        else:
            self._has_more = True

    def _settle_error(self, answer: Answer, tail: tuple[bytes, ...], number: int, reply: RedisReplyError) -> None:
        if code_of(reply) == "NOSCRIPT" and number != self._last_eval:
            # Not run, so it may be asked again; the text is sent once, also when many have found it missing.
            if not answer.done():
                self._ask(answer, tail, b"EVALSHA" if number < self._last_eval else b"EVAL")
        elif is_of_the_connection(reply):
            self._asked.appendleft((answer, tail, number))
            self.end(storage_error(self._target.name, reply))
        else:
            error = storage_error(self._target.name, reply)
            if not isinstance(error, Redirected):
                self._on_failure(error)
            if not answer.done():
                answer.set_exception(error)

    # --- deadlines and ends -------------------------------------------------------------------------------------------

    def _look_at_opening(self) -> bool:
        is_moving, self._has_heard = self._has_heard or self._is_awaited(), False
        if not self._deadline.is_over(0, is_moving=is_moving):
            return True
        self.end(self._timeout(self._target.connect_timeout_s))
        return False

    def _is_awaited(self) -> bool:
        # The loop may not have looked yet: uvloop looks at timers before it looks at sockets.
        if self._socket is None or self._socket.fileno() < 0 or not self._awaits:
            return False
        socket_alone = select.poll()
        socket_alone.register(self._socket, self._awaits)
        return bool(socket_alone.poll(0))

    def _look_at_answers(self) -> bool:
        if self._is_timed_out():
            # Answers may have come while the loop was busy.
            self._on_readable()
            if not self._is_ended and self._is_timed_out():
                self.end(self._timeout(self._target.command_timeout_s))
        return bool(self._batches) and not self._is_ended

    def _is_timed_out(self) -> bool:
        while self._batches and self._batches[0][1] <= self._answered:
            self._batches.popleft()
        return bool(self._batches) and self._deadline.is_over(self._batches[0][0], is_moving=self._has_more)

    def _timeout(self, limit_s: float) -> StorageTimeout:
        return StorageTimeout(f"{self._target.name} has not answered within {limit_s * 1000:.0f} ms")
