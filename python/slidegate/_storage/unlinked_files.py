"""Files that have lost their name while workers of a server count in them.

The logind of systemd takes away, with RemoveIPC=yes, all names in /dev/shm of a user whose last session ends. Workers
that run go on with what they have open; one that is started again then finds it there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

# Files that were made without a name are known by none, but to those who have opened them by the one that they got.
_open: list[int] = []


def keep_open(path: str) -> None:
    """Has the file found by other workers when it has lost its name, as long as this process lives."""
    _open.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))


def still_open(path: str, server_pid: int) -> Iterator[str]:
    """Paths by which the file that had this one can be opened, of the workers of the server that have it open."""
    for pid in _children(server_pid):
        directory = f"/proc/{pid}/fd"
        # They may end meanwhile, and may be of another user.
        with suppress(OSError):
            for name in os.listdir(directory):
                with suppress(OSError):
                    if os.readlink(f"{directory}/{name}") == f"{path} (deleted)":
                        yield f"{directory}/{name}"


def _children(pid: int) -> Iterator[str]:
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as children:
            yield from children.read().split()
