"""The storage of limiters that are given none: one for all workers of a server."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from collections import Counter
from typing import Any

from ._core import Segment, SegmentError, process_start, remove_leftovers
from ._keeper import claim, keep_names
from ._server import Server, find_server

_PACKAGE = __name__.partition(".")[0]
_PREFIX = "server."

# Tells the limiters of one place of a program apart, the same in every worker. No limiter could hold it.
_made: Counter[str] = Counter()


def common_segment(size: int | None) -> Segment | None:
    """What all workers of the server count in that this process belongs to. None when there is no such server.

    Every limiter of a program has one of its own, known by the place where it is made.
    """
    server = find_server()
    if server is None:
        return None
    try:
        if server.is_this:
            return Segment.inherited(size or Segment.default_size)
        return _named(server, size or 0)
    except (SegmentError, OSError) as error:
        logging.getLogger("slidegate").warning(
            "every worker counts alone, so that clients get the limits once for each: %s; storage_uri can name a file"
            " (file:///var/lib/my-api/limits) or Redis instead",
            error,
        )
        return None


def warn_of_memory() -> socket.socket | None:
    """Logs that the workers of a server count apart, once for all of them as long as what it returns is kept."""
    server = find_server()
    claimed = None if server is None else claim(_server_prefix(server) + "memory")
    if claimed is not None:
        logging.getLogger("slidegate").warning(
            'storage_uri="memory://" makes every worker count alone, so that clients get the limits once for each;'
            " leave it out to have the workers of this server count together"
        )
    return claimed


def _named(server: Server, size: int) -> Segment:
    prefix = _server_prefix(server)
    remove_leftovers()
    segment = Segment.shared(prefix + _digest(_place()), size=size, owner_pid=server.pid)
    if segment.is_new:
        keep_names(server.pid, f"{Segment.shared_directory}/{Segment.shared_prefix}{prefix}")
    return segment


def _server_prefix(server: Server) -> str:
    # Numbers of processes are given again, and are others in every container.
    container = os.stat("/proc/self/ns/pid").st_ino
    return f"{_PREFIX}{server.pid}.{_digest(container, server.pid, process_start(server.pid), os.geteuid())}."


def _place() -> str:
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    _made[place] += 1
    return f"{place} {_made[place]}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
