"""Which server this process is a worker of."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from types import FrameType
from typing import NamedTuple

# What the main thread of every worker is in, as long as it lives, from before the application is imported.
_SPAWNED = {
    ("uvicorn._subprocess", "subprocess_started"),
    ("hypercorn.asyncio.run", "asyncio_worker"),
    ("hypercorn.asyncio.run", "uvloop_worker"),
    ("hypercorn.trio.run", "trio_worker"),
}
_MASTER = "gunicorn.arbiter"
_FORKED = (_MASTER, "spawn_worker")


class Server(NamedTuple):
    """A server that has workers."""

    pid: int
    """Of the process that starts and restarts them, and ends last."""
    is_this: bool
    """Whether that is this process, of which workers are going to be forked."""


def find_server() -> Server | None:
    """The server with several workers (uvicorn, hypercorn, gunicorn) that this process belongs to, if it does."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if function == _FORKED:
            return Server(os.getppid(), is_this=False)
        if function[0] == _MASTER:
            return Server(os.getpid(), is_this=True)
        if function in _SPAWNED:
            return _parent() if _has_several(frame) else None
        frame = frame.f_back
    return None


def _has_several(frame: FrameType) -> bool:
    # One that is started for the sake of reloading is alone.
    return int(getattr(frame.f_locals.get("config"), "workers", None) or 1) > 1


def _parent() -> Server | None:
    # Once the parent is dead, the system has given this process another.
    parent = multiprocessing.parent_process()
    return Server(os.getppid(), is_this=False) if parent is not None and parent.pid == os.getppid() else None
