"""What an application keeps around requests: state, mounted applications, contexts, errors."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.application import OUTER
from e2e.server import Server, Servers


@pytest.mark.parametrize("suffix", ["", "/decorated"])
@pytest.mark.parametrize("root", ["", "/mounted"])
def test_requests_share_what_the_lifespan_yielded(root: str, suffix: str, servers: Servers) -> None:
    same = {"name": "main", "inner": "mounted", "is own application": True, "root": root}
    seen = servers.same(lambda server: [server.get(f"{root}/state{suffix}").json() for _ in range(3)])
    assert seen == [{**same, "calls": calls} for calls in (1, 2, 3)]


@pytest.mark.parametrize("root", ["", "/mounted"])
def test_a_decorator_above_that_of_the_route_limits_mounted_applications_too(root: str, servers: Servers) -> None:
    def program(server: Server, calls: int) -> Any:
        return [server.get(f"{root}/above").status for _ in range(calls)]

    assert servers.same(lambda server: program(server, 2)) == [200, 200]
    for server in servers.limited:
        assert servers.run(lambda server: program(server, 3), server) == ([200, 200, 429], [])


def test_what_is_kept_for_one_request_is_not_found_by_the_next(servers: Servers) -> None:
    def program(server: Server) -> Any:
        assert server.get("/state/decorated").status == 200
        with server.connect() as connection:
            assert connection.get("/state").status == 200
            return connection.get("/state/names").json()

    assert servers.same(program) == ["calls", "inner", "name"]


@pytest.mark.parametrize("suffix", ["", "/decorated"])
@pytest.mark.parametrize(("kind", "inner"), [("async", "set by the endpoint"), ("sync", "unset")])
def test_context_variables_reach_the_endpoint_and_come_back(
    kind: str, inner: str, suffix: str, servers: Servers
) -> None:
    def program(server: Server) -> Any:
        return server.get(f"/context/{kind}{suffix}").json(), server.notes_when_idle()

    outer, notes = servers.same(program)
    assert outer == f"outer of /context/{kind}{suffix}" != OUTER.get()
    assert notes == [f"inner is {inner}"]


ERRORS = {
    "value": (500, b"Internal Server Error", ["ValueError", "raised ValueError"]),
    "custom": (409, b"handled", ["Custom"]),
    "http": (418, b'{"detail":"teapot"}', ["HTTPException"]),
}


@pytest.mark.parametrize("suffix", ["", "/decorated"])
@pytest.mark.parametrize("function", ["sync", "async"])
@pytest.mark.parametrize("kind", ERRORS)
def test_errors_of_an_endpoint_are_answered_and_logged_the_same(
    kind: str, function: str, suffix: str, servers: Servers
) -> None:
    def program(server: Server) -> Any:
        answer = server.get(f"/raises/{function}{suffix}/{kind}")
        return answer.unlimited.status, answer.body, answer.unlimited, server.notes_when_idle()

    status, body, _, notes = servers.same(program)
    expected_status, expected_body, (seen, *raised) = ERRORS[kind]
    assert (status, body) == (expected_status, expected_body)
    assert notes == [f"dependency saw {seen}", "dependency closed", *raised]


def test_errors_are_told_the_limits_when_they_have_handlers_and_not_when_they_are_bugs(servers: Servers) -> None:
    for server in servers.limited:

        def program(server: Server) -> Any:
            return [bool(server.get(f"/raises/async/{kind}").limit_headers) for kind in ERRORS]

        told, complaints = servers.run(program, server)
        assert told == [False, True, True]
        assert complaints[-1] == "ValueError: wrong"
