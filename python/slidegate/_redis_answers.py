"""What an answer of a Redis server means for whoever waits for it."""

from __future__ import annotations

from ._core import RedisReplyError
from .errors import StorageError, StorageFull, StorageUnavailable

# What a server says that cannot count now, or not here, and may later.
_PASSING = {
    "LOADING",
    "READONLY",
    "BUSY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
}
_SHUT_OUT = {"NOAUTH", "WRONGPASS", "NOPERM"}


def code_of(error: RedisReplyError) -> str:
    """The first word of an error, which is what programs go by."""
    return str(error).split(" ", 1)[0]


def storage_error(name: str, error: RedisReplyError) -> StorageError:
    """The error for whoever asked `name`, in the server's own words only where they hold no secret."""
    code = code_of(error)
    if code == "OOM":
        return StorageFull(f"{name} has no memory left (OOM)")
    if code in _PASSING:
        return StorageUnavailable(f"{name} cannot count now: {code}")
    if code in _SHUT_OUT:
        return StorageUnavailable(f"{name} does not let this program in: {code}; see user and password of the URI")
    return StorageError(f"{name} failed: {error}")


def greeting_error(name: str, command: tuple[bytes, ...], reply: object) -> StorageError:
    """The error for a connection whose first commands were not answered OK."""
    what = "AUTH" if command[0] == b"AUTH" else " ".join(map(repr, command)).replace("b'", "'")
    answer = code_of(reply) if isinstance(reply, RedisReplyError) else "something else than OK"
    return StorageUnavailable(f"{name} answered {what} with {answer}")


def is_of_the_connection(error: RedisReplyError) -> bool:
    """Whether another connection may do better: to a server that has been promoted, or with another password."""
    return code_of(error) in ("READONLY", "NOAUTH", "MASTERDOWN")
