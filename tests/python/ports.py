"""Ports of the loopback, for servers that cannot be told to find one themselves."""

from __future__ import annotations

import itertools
import os
import socket

# They are below those that the system gives to whoever connects or asks for any: nobody is given one between the
# look at it and the start of its server. The bus of a Redis cluster takes the port that is so much higher.
_FIRST, _LAST, _BUS = 10_000, 19_999, 10_000
# Tests that run side by side look at ports of their own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_own = range(_FIRST + _worker, _LAST + 1, _workers)
_candidates = itertools.islice(itertools.cycle(_own), os.getpid() % len(_own), None)


def free_port() -> int:
    """One that nobody listens on, nor on that of its bus, and that was not given before."""
    return next(port for port in _candidates if _is_free(port) and _is_free(port + _BUS))


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
