"""Other processes that answer on the same address as this one, and so ought to count together with it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from weakref import WeakSet

from .cleanup import is_first
from .server_process import find_server

# A server listens at some time after the start of its application, and tells nobody.
_FIRST_LOOK_S = 0.5
_LOOKS = 10

_looking: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def look_for_others() -> None:
    """Logs that processes that listen on one address count apart, once for all of them, as soon as this one listens.

    For one that counts alone, in its event loop. To call it again there does nothing.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if find_server() is None and loop not in _looking:
        _looking.add(loop)
        loop.call_later(_FIRST_LOOK_S, _look, loop, 1)


def _look(loop: asyncio.AbstractEventLoop, look: int) -> None:
    addresses = set(_addresses())
    for address in addresses:
        word = f"listener.{hashlib.sha256(repr(address).encode()).hexdigest()[:32]}"
        if not is_first(word) and is_first(f"{word}.said"):
            logging.getLogger("slidegate").warning(
                "another process answers on %s too, and each of them counts alone, so that clients get the limits once"
                ' for each; storage_uri="shared://my-api" has all of them count together',
                address,
            )
    if not addresses and look < _LOOKS:
        loop.call_later(_FIRST_LOOK_S * 2**look, _look, loop, look + 1)


def _addresses() -> Iterator[str]:
    # Servers make their sockets themselves, or are given them, and tell nobody of it.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as each:
                    if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        address = each.getsockname()
                        yield f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address)
