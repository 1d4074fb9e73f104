"""The end of what the workers of a server share: its names go when the server does, however that ends.

Workers are killed as a rule (those of uvicorn by themselves, when they are told to end), and get no chance to clean up;
and a name cannot go before, as workers are started again. So one small process waits for the server to end.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys

# What this process has said, held as long as it lives.
_said: list[socket.socket] = []

_PROGRAM = """
import os, select, signal, sys
for each in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
    signal.signal(each, signal.SIG_IGN)
server, directory, prefix = int(sys.argv[1]), sys.argv[2], sys.argv[3]
poll = select.poll()
poll.register(server, select.POLLIN)
poll.poll()
for name in os.listdir(directory):
    if name.startswith(prefix):
        try:
            os.unlink(os.path.join(directory, name))
        except OSError:
            pass
"""


def claim(word: str) -> socket.socket | None:
    """A word that nobody else has until the socket, and all that inherit it, are closed. None when somebody has.

    Anybody of this host can take one that can be guessed. Raises OSError where there are no such words.
    """
    claimed = socket.socket(socket.AF_UNIX)
    try:
        claimed.bind("\0slidegate." + word)
    except OSError as error:
        claimed.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return claimed


def is_first(word: str) -> bool:
    """Whether no other process has said this before, as long as that lives. True where there are no such words."""
    try:
        claimed = claim(word)
    except OSError:
        return True
    if claimed is not None:
        _said.append(claimed)
    return claimed is not None


def keep_names(server_pid: int, path_prefix: str, word: str) -> None:
    """Has all files that begin so removed when the server has ended. To call it again with that word does nothing.

    Where that cannot be done (an old kernel, a Python that is embedded in another program) it is not: the leftovers
    are removed when the next server of this user starts.
    """
    if not os.path.basename(sys.executable or "").startswith("python"):
        return
    directory, prefix = os.path.split(path_prefix)
    try:
        claimed = claim(word)
    except OSError:
        return
    if claimed is None:
        return
    with claimed:
        try:
            server = os.pidfd_open(server_pid)
        except (OSError, AttributeError):
            return
        try:
            keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(server), directory, prefix],
                pass_fds=(server, claimed.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,
            )
        except OSError:
            return
        finally:
            os.close(server)
    # It outlives this process. To say that it has ended spares a warning that it has not.
    keeper.returncode = 0
