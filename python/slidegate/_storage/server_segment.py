"""The storage of limiters that are given none: one for all workers of a server."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import Counter
from functools import lru_cache
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from .._core import Segment, SegmentError, SegmentMissing, process_start, remove_leftovers
from .cleanup import is_first, keep_names
from .server_process import Server, find_server, is_starting
from .unlinked_files import keep_open, still_open

_PACKAGE = __name__.partition(".")[0]
_PREFIX = "server."
_LOGGER = logging.getLogger("slidegate")

# Tells the limiters of one place of a program apart, the same in every worker. No limiter could hold it.
_made: Counter[str] = Counter()
# Tells limiters apart that workers inherit, objects and all.
_numbers = count(1)
# What this process has open already, by its number, which a fork changes, and by name.
_opened: WeakValueDictionary[tuple[int, str], Segment] = WeakValueDictionary()


def common_segment(
    size: int | None, name: str | None, *, is_beside: bool = False, is_apart: bool = False
) -> tuple[Segment | None, str]:
    """What all workers of the server count in that this process belongs to, and the space of this limiter in it. None
    when there is no such server.

    The limiters of a program have one segment together; one with a size of its own, and one that `is_apart`, has one
    for itself. Each is known by its name; without one by the place where it is made, while the server starts. After
    that there is no telling which it is: None, with a warning, unless it `is_beside` another storage, in which it is
    counted as a rule.
    """
    server = find_server()
    if server is None:
        return None, ""
    is_alone = is_apart or size is not None
    try:
        which = _which(name)
        if server.is_this:
            space = which or f"number {next(_numbers)}"
            if is_alone or not _inherited(os.getpid()).admits(space):
                return Segment.inherited(size or Segment.default_size), ""
            return _inherited(os.getpid()), space
        if which is None:
            if not is_beside:
                place = _place()
                text = (
                    f"a Limiter that {place} makes after the start counts alone in every worker, so that clients get"
                    ' its limits once for each: nothing tells the workers which one it is; say Limiter(name="...") with'
                    ' a name of its own that is the same in all workers, or storage_uri="shared://..."'
                )
                _warn_once(server, f"late.{_digest(place)}", text)
            return None, ""
        together = None if is_alone else _named(server, "all", 0)
        if together is not None and together.admits(which):
            return together, which
        return _named(server, which, size or 0), ""
    except (SegmentError, OSError) as error:
        if is_beside:
            text = f"metrics, and what counts while the storage is out, are those of each worker alone: {error}"
        else:
            text = (
                f"every worker counts alone, so that clients get the limits once for each: {error}; storage_uri can"
                " name another place: a file in a directory of this user's own (file:///var/lib/my-api/limits) or Redis"
            )
        _warn_once(server, "alone.beside" if is_beside else "alone", text)
        return None, ""


@lru_cache(1)
def _inherited(pid: int) -> Segment:
    # Of this process: a child that becomes a server has its own.
    return Segment.inherited(Segment.default_size)


def warn_of_memory() -> None:
    """Logs that the workers of a server count apart, once for all of them."""
    server = find_server()
    if server is not None:
        _warn_once(
            server,
            "memory",
            'storage_uri="memory://" makes every worker count alone, so that clients get the limits once for each;'
            " leave it out to have the workers of this server count together",
        )


def _warn_once(server: Server, topic: str, text: str) -> None:
    # For all workers of the server.
    if is_first(_name_of(server, topic)):
        _LOGGER.warning(text)


def shared_segment(name: str, **options: Any) -> Segment:
    """`Segment.shared`, or what other workers of this server have open that had this name. Raises SegmentError."""
    server = find_server()
    if server is None:
        return Segment.shared(name, **options)
    path = f"{Segment.shared_directory}/{Segment.shared_prefix}{name}"
    if not os.path.lexists(path) and (survivor := _survivor(server, path, options)) is not None:
        return survivor
    segment = Segment.shared(name, **options)
    if segment.is_new:
        keep_open(path)
    return segment


def _named(server: Server, which: str, size: int) -> Segment:
    name = _name_of(server, which)
    known = _opened.get((os.getpid(), name))
    if known is not None:
        return known
    remove_leftovers()
    segment = _opened[os.getpid(), name] = shared_segment(name, size=size, owner_pid=server.pid)
    if segment.is_new:
        prefix = f"{Segment.shared_directory}/{Segment.shared_prefix}{_server_prefix(server)}"
        keep_names(server.pid, prefix, _name_of(server, "keeper"))
    return segment


def _survivor(server: Server, path: str, options: dict[str, Any]) -> Segment | None:
    for found in still_open(path, server.pid):
        try:
            segment = Segment.file(found, **options, may_create=False)
        except SegmentMissing:
            continue
        _warn_once(
            server,
            "lost",
            f"somebody has removed {path}: workers still count together, but forget what they have counted when all of"
            " them end at once; systemd removes such files when a user logs out, unless the server runs as a system"
            " user, or logind.conf says RemoveIPC=no, or after loginctl enable-linger",
        )
        return segment
    return None


def _name_of(server: Server, topic: str) -> str:
    # The first one that is there shows everybody how all begin.
    return _server_prefix(server) + _digest(server.secret, topic)


def _server_prefix(server: Server) -> str:
    # Everybody may make files and sockets of these names, so nobody else may know them before they are there.
    # Numbers of processes are given again, and are others in every container.
    container = os.stat("/proc/self/ns/pid").st_ino
    server_id = _digest(server.secret, container, server.pid, process_start(server.pid), os.geteuid())
    return f"{_PREFIX}{server.pid}.{server_id}."


def _which(name: str | None) -> str | None:
    if name is not None:
        return f"name {name}"
    if not is_starting():
        return None
    place = _place()
    _made[place] += 1
    return f"{place} {_made[place]}"


def _place() -> str:
    # Where the program makes the limiter.
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
