"""Background tasks run after the response, once, and not for what was refused."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.server import Server, Servers

PATHS = ("response", "parameter", "thread")


@pytest.mark.parametrize("suffix", ["", "/decorated"])
@pytest.mark.parametrize("path", PATHS)
def test_a13_a_background_task_runs_once_after_the_response_was_received(
    path: str, suffix: str, servers: Servers
) -> None:
    def program(server: Server) -> Any:
        with server.connect() as connection:
            answer = connection.get(f"/background/{path}{suffix}")
            before = list(server.notes())
            server.open_gate(times=2)
            return answer.unlimited, before, server.notes_when_idle()

    answer, before, after = servers.same(program)
    assert (answer.status, answer.json()) == (200, "answered")
    assert (before, after) == ([], ["background"])


@pytest.mark.parametrize("path", PATHS)
def test_a_refused_request_leaves_no_background_task(path: str, servers: Servers) -> None:
    for server in servers.limited:

        def program(server: Server) -> Any:
            statuses = [server.get(f"/background/{path}/decorated").status for _ in range(4)]
            server.open_gate(times=4)
            return statuses, server.notes_when_idle()

        seen, complaints = servers.run(program, server)
        assert seen == ([200, 200, 429, 429], ["background"] * 2)
        assert complaints == []


def test_a_request_that_fails_leaves_what_it_left_without_limits(servers: Servers) -> None:
    def program(server: Server) -> Any:
        server.open_gate()
        return server.get("/background/failing/decorated").unlimited, server.notes_when_idle()

    answer, notes = servers.same(program)
    assert (answer.status, notes) == (418, [])
