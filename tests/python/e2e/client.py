"""An HTTP client that sees what is on the wire: when it sends what, and which part of the answer has come."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import h11

PATIENCE_S = 60
_numbers = itertools.count(1)
_TOLD_BY_LIMITS = ("x-ratelimit-", "retry-after")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def limit_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers if name.startswith(_TOLD_BY_LIMITS)}

    @property
    def unlimited(self) -> Answer:
        """What has to be the same without limits."""
        kept = (each for each in self.headers if not each[0].startswith((*_TOLD_BY_LIMITS, "date")))
        return Answer(self.status, tuple(sorted(kept)), self.body)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """A request that is being sent and its answer that is being read."""

    def __init__(self, connection: Connection, http: h11.Connection) -> None:
        self._connection = connection
        self._http = http

    def send(self, data: bytes, *, is_last: bool = False) -> None:
        out = self._http.send(h11.Data(data)) or b""
        if is_last:
            out += self._http.send(h11.EndOfMessage()) or b""
        self._connection.socket.sendall(out)

    def interim(self) -> int:
        """The status of a response that comes before the final one."""
        event = self._next()
        assert isinstance(event, h11.InformationalResponse), event
        return event.status_code

    def head(self) -> Answer:
        event = self._next()
        assert isinstance(event, h11.Response), event
        return Answer(event.status_code, tuple((name.decode(), value.decode()) for name, value in event.headers))

    def chunk(self) -> bytes:
        """The next chunk, whole; empty at the end of the body."""
        chunk = b""
        while True:
            event = self._next()
            if isinstance(event, h11.EndOfMessage):
                assert not chunk
                return b""
            assert isinstance(event, h11.Data), event
            chunk += bytes(event.data)
            if event.chunk_end:
                return chunk

    def rest(self) -> bytes:
        body = b""
        while isinstance(event := self._next(), h11.Data):
            body += bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event
        # What has come already of the next answer.
        self._connection.received = self._http.trailing_data[0]
        return body

    def answer(self) -> Answer:
        head = self.head()
        return Answer(head.status, head.headers, self.rest())

    def _next(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(self._connection.receive())
        return event


class Connection:
    """A connection of a client, which limits know by its address or by its name in a header."""

    def __init__(self, port: int, client: str) -> None:
        self.socket = dialled(port, client)
        self.received = b""
        self._client = client

    def begin(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = b""
    ) -> Exchange:
        """Sends a request, as far as the body is known: with None it is still to come, as long as its headers say."""
        exchange, out = self.prepared(method, path, headers, body)
        self.socket.sendall(out)
        return exchange

    def prepared(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = b""
    ) -> tuple[Exchange, bytes]:
        """A request that the caller sends."""
        http = h11.Connection(h11.CLIENT)
        lengths = [("content-length", str(len(body)))] if body else []
        own = [("host", "localhost"), ("x-client", self._client), *lengths, *headers]
        out = http.send(h11.Request(method=method, target=path, headers=own)) or b""
        if body is not None:
            out += (http.send(h11.Data(body)) or b"") if body else b""
            out += http.send(h11.EndOfMessage()) or b""
        return Exchange(self, http), out

    def call(self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        return self.begin(method, path, headers, body).answer()

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def receive(self) -> bytes:
        data, self.received = self.received, b""
        return data or self.socket.recv(65536)

    def is_closed_by_server(self) -> bool:
        """Waits until the server closes, if it still answers nothing else."""
        return self.receive() == b""

    def close(self) -> None:
        self.socket.close()


@cache
def address_of(client: str) -> str:
    """An address of this machine that no other client has."""
    number = next(_numbers)
    assert number < 1 << 16
    return f"127.1.{number >> 8}.{number & 255}"


def dialled(port: int, client: str) -> socket.socket:
    """A connection from the address of a client."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S, (address_of(client), 0))


@contextmanager
def connected(port: int, client: str) -> Iterator[Connection]:
    connection = Connection(port, client)
    try:
        yield connection
    finally:
        connection.close()
