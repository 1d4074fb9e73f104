"""What a client that leaves brings about."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from e2e.server import Server, Servers
from e2e.streams_of import ASYNCHRONOUS


@pytest.mark.parametrize("path", ["/streams/endless", "/streams/endless/decorated"])
def test_a13_the_generator_of_a_client_that_left_is_ended(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("GET", path)
            exchange.head()
            exchange.chunk()
        server.notes_until("closed")
        return server.notes_when_idle()

    notes = servers.same(program)
    assert notes[:2] == ["CancelledError", "closed"]


@pytest.mark.parametrize("path", ASYNCHRONOUS)
def test_a_generator_that_waits_is_ended(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("GET", path)
            exchange.head()
            server.open_gate()
            exchange.chunk()
        server.notes_until("closed")
        return server.notes_when_idle()

    assert servers.same(program)[:3] == ["chunk 0", "CancelledError", "closed"]


@pytest.mark.parametrize("path", ["/streams/endless/sync", "/streams/endless/sync/decorated"])
def test_a_synchronous_generator_of_a_client_that_left_is_closed(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("GET", path)
            exchange.head()
            exchange.chunk()
        return server.notes_when_idle()

    assert sorted(servers.same(program)) == ["background", "closed"]


@pytest.mark.parametrize("path", ["/patient", "/patient/decorated"])
def test_an_endpoint_can_ask_whether_its_client_has_left(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            connection.begin("GET", path)
            server.notes_until("disconnected: False")
        server.notes_until("disconnected: True")
        return server.notes_when_idle()

    assert servers.same(program) == ["disconnected: False", "disconnected: True"]


@pytest.mark.parametrize("path", ["/upload", "/upload/decorated"])
def test_an_upload_that_is_cut_off_is_an_error_where_it_is_read(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            connection.begin("POST", path, [("content-length", "20")], None).send(b"0123456789")
            server.notes_until("has 10")
        server.notes_until("ClientDisconnect")
        return server.notes_when_idle()

    notes = servers.same(program)
    assert [note for note in notes if note != "has 0"] == ["has 10", "ClientDisconnect", "raised ClientDisconnect"]


def held(servers: Servers) -> Server:
    (server,) = (each for each in servers.limited if each.variant == "holding")
    return server


def leave(server: Server, path: str) -> None:
    with server.connect() as connection:
        connection.begin("GET", path)
        server.notes_until("disconnected: False")
    server.notes_until("disconnected: True")
    server.notes_when_idle()


@pytest.mark.parametrize(("status", "then"), [(200, 200), (401, 429)])
def test_what_is_held_for_a_client_that_left_is_judged_by_the_answer_that_it_did_not_read(
    status: int, then: int, servers: Servers
) -> None:
    def program(server: Server) -> int:
        leave(server, f"/leaving/{status}")
        with server.connect() as connection:
            exchange = connection.begin("GET", f"/leaving/{status}")
            if then == 429:
                answered: int = exchange.answer().status
                return answered
            # It is let in, or this would not come a second time.
            server.notes_until("disconnected: False", times=2)
            return 200

    assert servers.run(program, held(servers)) == (then, [])


def test_what_is_held_for_a_stream_is_given_back_when_it_begins(servers: Servers) -> None:
    def program(server: Server) -> list[int]:
        with server.connect() as one, server.connect() as two:
            statuses = [each.begin("GET", "/streams/failures").head().status for each in (one, two)]
        server.notes_when_idle()
        return statuses

    assert servers.run(program, held(servers)) == ([200, 200], [])


def test_what_is_held_for_an_upload_that_was_cut_off_is_judged_as_the_error_that_it_is(servers: Servers) -> None:
    def program(server: Server) -> list[int]:
        for _ in range(3):
            with server.connect() as connection:
                connection.begin("POST", "/upload/failures", [("content-length", "20")], None).send(b"0123456789")
                server.notes_until("has 10")
            server.notes_until("ClientDisconnect")
            server.notes_when_idle()
        answer = server.call("POST", "/upload/failures", body=b"whole")
        assert answer.json()["digest"] == hashlib.sha256(b"whole").hexdigest()
        return [answer.status]

    seen, _ = servers.run(program, held(servers))
    assert seen == [200]
