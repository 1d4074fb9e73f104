"""Two kinds of servers, each without limits and with them in two ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from e2e.server import Servers, running

KINDS = {
    "asyncio-h11": ("--loop", "asyncio", "--http", "h11"),
    "uvloop-httptools": ("--loop", "uvloop", "--http", "httptools"),
}
VARIANTS = ("plain", "limited", "holding")


@pytest.fixture(scope="session")
def every_kind_of_servers() -> Iterator[dict[str, Servers]]:
    """All at once: they start at the same time."""
    with ExitStack() as stack:
        found = {}
        for kind, options in KINDS.items():
            plain, *limited = [stack.enter_context(running(variant, options)) for variant in VARIANTS]
            found[kind] = Servers(plain, limited, options)
        yield found


@pytest.fixture(params=KINDS)
def servers(every_kind_of_servers: dict[str, Servers], request: pytest.FixtureRequest) -> Servers:
    return every_kind_of_servers[request.param]
