"""What an answer of a Redis server means for whoever waits for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..._core import RedisReplyError
from ..._support.errors import StorageError, StorageFull, StorageUnavailable
from ..._support.escaping import escaped

# What a server says that cannot count now, or not here, and may later.
_PASSING = {"LOADING", "READONLY", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "MISCONF", "NOREPLICAS"}
_REDIRECTIONS = {"MOVED", "ASK", "TRYAGAIN"}
_SHUT_OUT = {"NOAUTH", "WRONGPASS", "NOPERM"}


class Redirected(StorageUnavailable):
    """A node of a cluster has not run the script, and says why: "MOVED" and "ASK" with the node to ask, or "TRYAGAIN"
    while keys are on their way.
    """

    def __init__(self, message: str, kind: str = "", place: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.place = place


def code_of(error: RedisReplyError) -> str:
    """The first word of an error, which is what programs go by."""
    return str(error).split(" ", 1)[0]


def storage_error(name: str, error: RedisReplyError) -> StorageError:
    """The error for whoever asked `name`, in the server's own words only where they hold no secret."""
    code = code_of(error)
    if code in _REDIRECTIONS:
        what = f"{name} is a node of a cluster, and not that of the key ({code}); see redis+cluster:// URIs"
        return Redirected(what, code, str(error).rpartition(" ")[2])
    if code == "OOM":
        return StorageFull(f"{name} has no memory left (OOM)")
    if code in _PASSING:
        return StorageUnavailable(f"{name} cannot count now: {code}")
    if code in _SHUT_OUT:
        return StorageUnavailable(f"{name} does not let this program in: {code}; see user and password of the URI")
    return StorageError(f"{name} failed: {escaped(error)}")


def check_greetings(name: str, commands: Sequence[tuple[bytes, ...]], replies: Iterable[object]) -> None:
    """Raises StorageUnavailable when one of them was not answered as it has to be."""
    for command, reply in zip(commands, replies, strict=True):
        if command == (b"ROLE",):
            # Of two sentinels one may be late.
            if not (isinstance(reply, list) and reply and reply[0] == b"master"):
                raise StorageUnavailable(f"{name} is no master, or not yet")
        elif reply != b"OK":
            what = "AUTH" if command[0] == b"AUTH" else " ".join(map(repr, command)).replace("b'", "'")
            answer = code_of(reply) if isinstance(reply, RedisReplyError) else "something else than OK"
            raise StorageUnavailable(f"{name} answered {what} with {escaped(answer)}")


def is_of_the_connection(error: RedisReplyError) -> bool:
    """Whether another connection may do better: to a server that has been promoted, or with another password."""
    return code_of(error) in ("READONLY", "NOAUTH", "MASTERDOWN")
