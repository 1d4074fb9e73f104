"""What goes over the wire is the same: methods, redirects, bodies, connections."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from e2e.client import Answer
from e2e.server import Server, Servers

PLACES = [
    ("GET", "/page", 200),
    ("HEAD", "/page", 200),
    ("HEAD", "/page/decorated", 200),
    ("POST", "/page", 405),
    ("POST", "/page/decorated", 405),
    ("DELETE", "/items/1", 405),
    ("HEAD", "/items/1", 405),
    ("OPTIONS", "/items/1", 405),
    ("PUT", "/items/1", 200),
    ("GET", "/items", 307),
    ("GET", "/items/1/", 307),
    ("POST", "/few/", 307),
    ("GET", "/nowhere", 404),
    ("GET", "/items/%2F/..", 404),
    ("GET", "/answers/text", 422),
    ("GET", "/answers/204", 204),
    ("GET", "/answers/304", 304),
    ("GET", "/openapi.json", 200),
]


@pytest.mark.parametrize(("method", "path", "status"), PLACES)
def test_an_answer_is_the_same_but_for_the_headers_of_limits(
    method: str, path: str, status: int, servers: Servers
) -> None:
    answer = servers.same(lambda server: server.call(method, path).unlimited)
    assert answer.status == status


@pytest.mark.parametrize("path", ["/page", "/page/decorated", "/items/1", "/streams/async"])
def test_an_answer_has_the_headers_of_one_limit(path: str, servers: Servers) -> None:
    for server in servers.limited:

        def program(server: Server) -> Answer:
            with server.connect() as connection:
                return connection.begin("GET", path).head()

        answer, _ = servers.run(program, server)
        names = [name for name, _ in answer.headers if name.startswith("x-ratelimit")]
        assert sorted(names) == ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
        server.open_gate(times=3)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("path", ["/upload", "/upload/decorated"])
def test_an_upload_is_read_as_it_comes(path: str, is_chunked: bool, servers: Servers) -> None:
    part, count = bytes(range(256)) * 512, 64
    whole = part * count

    def program(server: Server) -> Answer:
        length = ("transfer-encoding", "chunked") if is_chunked else ("content-length", str(len(whole)))
        with server.connect() as connection:
            exchange = connection.begin("POST", path, [length], None)
            exchange.send(part)
            server.notes_until(f"has {len(part)}")
            for _ in range(count - 2):
                exchange.send(part)
            exchange.send(part, is_last=True)
            return exchange.answer().unlimited

    assert servers.same(program).json() == {"size": 8 << 20, "digest": hashlib.sha256(whole).hexdigest()}


@pytest.mark.parametrize("path", ["/upload", "/upload/decorated"])
def test_a_body_is_asked_for_when_the_endpoint_reads_it(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("POST", path, EXPECTING, None)
            interim = exchange.interim()
            exchange.send(b"hello", is_last=True)
            return interim, exchange.answer().unlimited

    interim, answer = servers.same(program)
    assert (interim, answer.json()["size"]) == (100, 5)


EXPECTING = [("expect", "100-continue"), ("content-length", "5")]


def use_up(server: Server) -> None:
    assert [server.get("/few").status for _ in range(3)] == [200] * 3


def test_a_body_is_not_asked_for_when_the_request_is_refused(servers: Servers) -> None:
    def program(server: Server, path: str) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("POST", path, EXPECTING, None)
            head = exchange.head()
            exchange.rest()
            return head.status, head.header("connection")

    own, _ = servers.run(lambda server: program(server, "/answers/429"), servers.plain)
    assert own[0] == 429
    for server in servers.limited:

        def refused(server: Server) -> Any:
            use_up(server)
            return program(server, "/few")

        assert servers.run(refused, server) == (own, [])


@pytest.mark.parametrize("body", [b"", b"unread", b"x" * 300_000])
def test_a_connection_is_used_again_after_a_refusal_as_after_any_429(body: bytes, servers: Servers) -> None:
    def program(server: Server, path: str) -> Any:
        with server.connect() as connection:
            refused = [connection.call("POST", path, body=body).status for _ in range(2)]
            return refused, connection.call("POST", "/upload", body=b"hello").json()["size"]

    own, _ = servers.run(lambda server: program(server, "/answers/429"), servers.plain)
    assert own == ([429, 429], 5)
    for server in servers.limited:

        def refused(server: Server) -> Any:
            use_up(server)
            return program(server, "/few")

        assert servers.run(refused, server) == (own, [])


def test_an_old_client_is_answered_the_same(servers: Servers) -> None:
    def program(server: Server) -> bytes:
        with server.connect() as connection:
            connection.socket.sendall(f"GET /few HTTP/1.0\r\nx-client: {server.name}\r\n\r\n".encode())
            answer = b""
            while data := connection.receive():
                answer += data
            return answer.rpartition(b"\r\n\r\n")[2]

    assert servers.same(program) == b'{"answer":"few"}'
