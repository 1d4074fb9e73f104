"""Which server this process is a worker of, and whether it is still starting."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import NamedTuple

from .._core import launch_secret

# What the main thread of every worker is in, as long as it lives, from before the application is imported. Tests name
# the versions of the servers that these are of.
_SPAWNED = {
    ("uvicorn._subprocess", "subprocess_started"),
    ("hypercorn.asyncio.run", "asyncio_worker"),
    ("hypercorn.asyncio.run", "uvloop_worker"),
    ("hypercorn.trio.run", "trio_worker"),
    ("granian.server.mp", "wrapped"),
    ("granian.server.mp", "_spawn_asgi_worker"),
    ("granian.server.mp", "_spawn_asgi_lifespan_worker"),
}
_MASTER = "gunicorn.arbiter"
_FORKED = (_MASTER, "spawn_worker")
# What imports an application below an event loop that runs already; all others do so before they run one.
_LOADING = ("uvicorn.config", "load")
_RUNNING = ("trio._core._run", "run")


class Server(NamedTuple):
    """A server that has workers."""

    pid: int
    """Of the process that starts and restarts them, and ends last."""
    is_this: bool
    """Whether that is this process, of which workers are going to be forked."""
    secret: bytes
    """What it shares with its workers, and no other user can know."""


def find_server() -> Server | None:
    """The server with workers (uvicorn, hypercorn, gunicorn, granian) that this process belongs to, if it does."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        function = _function_of(frame)
        if function == _FORKED:
            return Server(os.getppid(), False, launch_secret())
        if function[0] == _MASTER:
            return Server(os.getpid(), True, launch_secret())
        if function in _SPAWNED:
            return _parent() if _has_several(frame) else None
        frame = frame.f_back
    return None


def is_starting() -> bool:
    """Whether what calls this is done by every worker in the same order: by the main thread, while it imports the
    application or runs its lifespan. Requests, and tasks and threads of the program's own, come in any order.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        function = _function_of(frame)
        if function == _LOADING:
            return True
        if function == _RUNNING:
            return False
        if function == _FORKED or function in _SPAWNED:
            return asyncio._get_running_loop() is None
        scope = frame.f_locals.get("scope")
        if isinstance(scope, Mapping) and scope.get("type") in ("lifespan", "http", "websocket"):
            return bool(scope["type"] == "lifespan")
        frame = frame.f_back
    return False


def _function_of(frame: FrameType) -> tuple[str, str]:
    return str(frame.f_globals.get("__name__")), frame.f_code.co_name


def _has_several(frame: FrameType) -> bool:
    # One that is started for the sake of reloading is alone. Granian does not say.
    config = frame.f_locals.get("config")
    return config is None or int(config.workers or 1) > 1


def _parent() -> Server | None:
    # Once the parent is dead, the system has given this process another.
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid != os.getppid():
        return None
    return Server(parent.pid, False, bytes(multiprocessing.current_process().authkey))
