"""Many requests at once: as many are admitted as the limit says."""

from __future__ import annotations

import selectors
from collections import Counter
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest

from e2e.application import DEFAULT
from e2e.client import PATIENCE_S, Exchange
from e2e.requests_of import AT_THE_LIMIT
from e2e.server import Server, Servers

CALLS = 200


@pytest.mark.parametrize(
    ("path", "clients", "limit"),
    [("/waiting/async", 5, AT_THE_LIMIT), ("/waiting/sync", 5, AT_THE_LIMIT), ("/waiting/default", 1, DEFAULT)],
)
def test_of_many_requests_at_the_same_time_exactly_the_limit_of_each_client_is_admitted(
    path: str, clients: int, limit: int, servers: Servers
) -> None:
    def program(server: Server) -> None:
        target = f"{path}?{urlencode({'name': server.name})}"
        admitted, refused = limit * clients, CALLS - limit * clients
        statuses: dict[str, Counter[int]] = {}
        with ExitStack() as stack, selectors.DefaultSelector() as waiting:
            for number in range(CALLS):
                client = f"{server.name}-{number % clients}"
                connection = stack.enter_context(server.connect(client))
                exchange = connection.begin("GET", target)
                waiting.register(connection.socket, selectors.EVENT_READ, (client, exchange))

            def count_answers(number: int) -> None:
                while number > 0:
                    ready = waiting.select(PATIENCE_S)
                    assert ready, f"{number} answers are missing: {statuses}"
                    for key, _ in ready:
                        client, exchange = key.data
                        waiting.unregister(key.fileobj)
                        statuses.setdefault(client, Counter())[answered(exchange)] += 1
                        number -= 1
                assert number == 0, statuses

            # Those that are admitted are all still there when the others have been refused.
            count_answers(refused)
            server.notes_until("entered", times=admitted)
            server.open_gate(times=admitted)
            count_answers(admitted)
        assert len(statuses) == clients
        assert all(each == {200: limit, 429: CALLS // clients - limit} for each in statuses.values())
        assert server.notes_when_idle() == ["entered"] * admitted

    for server in servers.limited:
        assert servers.run(program, server) == (None, [])


def answered(exchange: Exchange) -> int:
    return exchange.answer().status


def test_requests_that_do_not_wait_for_answers_are_answered_in_their_order(servers: Servers) -> None:
    def program(server: Server, count: int) -> list[int]:
        with server.connect() as connection:
            prepared = [connection.prepared("GET", "/few") for _ in range(count)]
            connection.socket.sendall(b"".join(out for _, out in prepared))
            return [exchange.answer().status for exchange, _ in prepared]

    assert servers.same(lambda server: program(server, 3)) == [200] * 3
    for server in servers.limited:
        assert servers.run(lambda server: program(server, 5), server) == ([200] * 3 + [429] * 2, [])
