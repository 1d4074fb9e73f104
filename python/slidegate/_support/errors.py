"""What can go wrong whatever is limited, as types. Programs import them from `slidegate.errors`."""

from __future__ import annotations

from typing import Any

import limits.errors
from starlette.exceptions import HTTPException

# By then a server that is out of reach has been asked again.
_RETRY_AFTER_S = 2


class ConfigurationError(ValueError, limits.errors.ConfigurationError):
    """A limit or a limiter that is put together wrongly.

    The message names what was written, where, and what would be right. Code that catches `ValueError`, or the
    `ConfigurationError` of the `limits` package, catches it too.
    """


class StorageError(Exception):
    """A storage that cannot be used: damaged, of another size, somebody else's, or without room.

    The message names it, what is wrong, and what would help.
    """


class StorageUnavailable(StorageError):
    """A server that cannot be reached, or does not count now. Whether it has counted is unknown if it was asked."""


class StorageTimeout(StorageError):
    """A server that has not answered in time. Whether it has counted is unknown."""


class StorageFull(StorageError):
    """A storage that has no room for another key."""


class Remade:
    """An exception that is made again from its attributes, whatever its constructor wants."""

    args: tuple[Any, ...]

    def __reduce__(self) -> Any:
        return _remade, (type(self), self.args), dict(vars(self))


class StorageOut(Remade, HTTPException):
    """A request that was not let through, as its limits cannot be checked now: an HTTP 503 with Retry-After.

    `__cause__` is the StorageError, which the response does not tell.
    """

    def __init__(self) -> None:
        super().__init__(
            status_code=503, detail="Rate limits cannot be checked now", headers={"Retry-After": str(_RETRY_AFTER_S)}
        )


class InvalidCost(Remade, HTTPException, ValueError):
    """A request of which nobody can say what it costs: an HTTP 422, and nothing was counted. Also a ValueError.

    `where` names what was to be limited, for logs; the response does not tell it.
    """

    def __init__(self, where: str, detail: str) -> None:
        super().__init__(status_code=422, detail=detail)
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


def _remade(kind: Any, args: tuple[Any, ...]) -> Any:
    error = kind.__new__(kind)
    error.args = args
    return error


for _kind in (
    ConfigurationError,
    StorageError,
    StorageUnavailable,
    StorageTimeout,
    StorageFull,
    StorageOut,
    InvalidCost,
):
    # Where programs find them, also when they are sent to another process.
    _kind.__module__ = "slidegate.errors"
