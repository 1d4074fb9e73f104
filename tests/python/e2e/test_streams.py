"""Answers that come in parts arrive in parts, each when it is made."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from e2e.client import Answer
from e2e.server import Server, Servers
from e2e.streams_of import ASYNCHRONOUS, EVENTS, HAS_EVENTS, OF_FASTAPI, SYNCHRONOUS

STREAMS = (*ASYNCHRONOUS, *SYNCHRONOUS)


def read_one_by_one(server: Server, path: str) -> tuple[Answer, list[bytes], list[str]]:
    """Reads the head before the first chunk may be made, and every chunk before the next may."""
    with server.connect() as connection:
        exchange = connection.begin("GET", path)
        head = exchange.head()
        assert bool(head.limit_headers) == (server.variant != "plain")
        chunks = []
        for number in range(3):
            assert server.notes() == [f"chunk {before}" for before in range(number)]
            server.open_gate()
            chunks.append(exchange.chunk())
        assert exchange.chunk() == b""
        return head.unlimited, chunks, server.notes_when_idle()


@pytest.mark.parametrize("path", STREAMS)
def test_a13_chunks_arrive_as_they_are_made(path: str, servers: Servers) -> None:
    head, chunks, notes = servers.same(partial(read_one_by_one, path=path))
    assert (head.status, head.header("transfer-encoding")) == (200, "chunked")
    assert chunks == [b"chunk 0\n", b"chunk 1\n", b"chunk 2\n"]
    assert notes == ["chunk 0", "chunk 1", "chunk 2", "closed", "background"]


@pytest.mark.parametrize("path", EVENTS)
def test_events_arrive_as_they_are_made(path: str, servers: Servers) -> None:
    head, chunks, notes = servers.same(partial(read_one_by_one, path=path))
    assert head.header("content-type") == "text/event-stream; charset=utf-8"
    assert chunks == [f"id: {number}\ndata: event\n\n".encode() for number in range(3)]
    assert notes == ["chunk 0", "chunk 1", "chunk 2", "closed"]


@pytest.mark.skipif(not HAS_EVENTS, reason="this FastAPI has no events of its own")
@pytest.mark.parametrize("path", OF_FASTAPI)
def test_what_endpoints_of_fastapi_yield_arrives_as_it_is_made(path: str, servers: Servers) -> None:
    head, chunks, notes = servers.same(partial(read_one_by_one, path=path))
    assert head.status == 200
    assert [b"%d" % number in chunk for number, chunk in enumerate(chunks)] == [True] * 3
    assert notes == ["chunk 0", "chunk 1", "chunk 2", "closed"]


@pytest.mark.parametrize("path", ["/streams/breaking", "/streams/breaking/decorated"])
def test_a_stream_that_fails_is_cut_off_and_told_in_the_log(path: str, servers: Servers) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            exchange = connection.begin("GET", path)
            head, first = exchange.head(), exchange.chunk()
            server.open_gate()
            assert connection.is_closed_by_server()
            return head.unlimited.status, first, server.notes_when_idle()

    status, first, (raised,) = servers.same(program)
    # Older versions of Starlette raise a group that has it.
    assert (status, first, raised.startswith("raised ")) == (200, b"chunk\n", True)


def test_a_head_request_for_a_stream_is_the_same(servers: Servers) -> None:
    answer = servers.same(lambda server: server.call("HEAD", "/streams/async").unlimited)
    assert (answer.status, answer.body) == (405, b"")
