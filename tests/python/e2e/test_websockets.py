"""WebSockets are the same, but for those that a decorator refuses, which are refused before they are accepted."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from e2e.client import PATIENCE_S, dialled
from e2e.server import Server, Servers
from e2e.sockets_of import FEW

ECHOES = ("/sockets/echo", "/sockets/echo/decorated")


def opened(server: Server, path: str) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{server.port}{path}",
        additional_headers={"x-client": server.name},
        subprotocols=["other", "chat"],  # type: ignore[list-item]
        open_timeout=PATIENCE_S,
        close_timeout=PATIENCE_S,
        compression=None,
        # One that is left alone by its test has nothing to say in the middle of others.
        ping_interval=None,
        sock=dialled(server.port, server.name),
    )


def refusal(server: Server, path: str) -> tuple[int, dict[str, str], bytes]:
    with pytest.raises(InvalidStatus) as refused, opened(server, path):
        pass
    response = refused.value.response
    return response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.body or b""


@pytest.mark.parametrize("path", ECHOES)
def test_a_conversation_is_the_same_and_so_are_the_headers_that_accept_it(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with opened(server, path) as talk:
            said: list[str | bytes] = ["text", b"\x00binary", "x" * 70_000, ""]
            heard = []
            for each in said:
                talk.send(each)
                heard.append(talk.recv(timeout=PATIENCE_S))
            assert talk.ping().wait(PATIENCE_S)
            headers = dict(talk.response.headers.items()) if talk.response is not None else {}
            talk.close(4002, "enough")
        assert heard == said
        names = {name.lower() for name in headers} - {"date"}
        return talk.subprotocol, headers["x-own"], sorted(names), server.notes_until("closed")

    subprotocol, own, _, notes = servers.same(program)
    assert (subprotocol, own) == ("chat", "kept")
    assert notes[0].startswith("left with 4002")


@pytest.mark.parametrize("path", ECHOES)
def test_the_close_code_of_a_server_arrives(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        return ended_by(server, path, "leave"), server.notes_until("closed")

    assert servers.same(program) == ((4001, "as you wish"), ["closed"])


@pytest.mark.parametrize("path", ECHOES)
def test_an_endpoint_that_fails_ends_the_conversation_the_same(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        return ended_by(server, path, "fail"), server.notes_until("raised ValueError")

    _, notes = servers.same(program)
    assert notes == ["closed", "raised ValueError"]


def ended_by(server: Server, path: str, word: str) -> tuple[int, str] | None:
    """The close code and the reason of the server; None when it just hangs up."""
    with opened(server, path) as talk:
        talk.send(word)
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(timeout=PATIENCE_S)
    received = closed.value.rcvd
    return (received.code, received.reason) if received is not None else None


@pytest.mark.parametrize("path", ECHOES)
def test_a_client_that_vanishes_is_noticed(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        talk = opened(server, path)
        # The client's thread that is reading keeps it open when it is only closed.
        talk.socket.shutdown(socket.SHUT_RDWR)
        talk.socket.close()
        return server.notes_until("closed")

    left, closed = servers.same(program)
    assert (left[:9], closed) == ("left with", "closed")


def test_a_socket_that_the_endpoint_does_not_accept_is_refused_the_same(servers: Servers) -> None:
    status, _, _ = servers.same(lambda server: without_date(refusal(server, "/sockets/closed")))
    assert status == 403


def test_a_path_without_an_endpoint_is_refused_the_same(servers: Servers) -> None:
    status, _, _ = servers.same(lambda server: without_date(refusal(server, "/sockets/none")))
    assert status == 403


def without_date(found: tuple[int, dict[str, str], bytes]) -> Any:
    status, headers, body = found
    return status, {name: value for name, value in headers.items() if name != "date"}, body


def test_a12_a_decorated_socket_is_refused_before_it_is_accepted(servers: Servers) -> None:
    def program(server: Server) -> Any:
        for _ in range(FEW):
            with opened(server, "/sockets/few") as talk, pytest.raises(ConnectionClosed):
                talk.recv(timeout=PATIENCE_S)
        refused = [refusal(server, "/sockets/few") for _ in range(2)]
        return refused, server.notes_when_idle()

    # Some versions of uvicorn complain when an application answers so, whatever the reason.
    own, expected = servers.run(lambda server: [refusal(server, "/sockets/denied") for _ in range(2)], servers.plain)
    assert [(status, headers["x-own"]) for status, headers, _ in own] == [(429, "kept")] * 2
    for server in servers.limited:
        (refused, notes), complaints = servers.run(program, server)
        assert complaints == expected
        assert notes == ["entered"] * FEW
        for status, headers, body in refused:
            assert (status, body) == (429, b'{"error":"Rate limit exceeded: 2 per 1 hour"}')
            assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("2", "0")
            assert int(headers["retry-after"]) > 0
