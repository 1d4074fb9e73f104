"""What can go wrong, as types."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException, WebSocketException

from ._rules.limit import Limit
from ._support.errors import ConfigurationError as ConfigurationError
from ._support.errors import InvalidCost as InvalidCost
from ._support.errors import Remade
from ._support.errors import StorageError as StorageError
from ._support.errors import StorageFull as StorageFull
from ._support.errors import StorageOut as StorageOut
from ._support.errors import StorageTimeout as StorageTimeout
from ._support.errors import StorageUnavailable as StorageUnavailable
from .decision import Decision


class RateLimitExceeded(Remade, HTTPException):
    """A request was refused: an HTTP 429, also where no handler is registered for it.

    `limit` is the limit that refused (`limit.limit` a `limits.RateLimitItem`), `detail` its notation or its error
    message, `decision` says how much of what was used by whom and when to come back (None when raised by hand), and
    `headers` hold at least Retry-After when there is a decision.
    """

    limit: Limit = None  # type: ignore[assignment]

    def __init__(
        self,
        limit: Limit,
        *,
        detail: str | None = None,
        decision: Decision | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.limit = limit
        self.decision = decision
        if detail is None:
            message = limit.error_message
            detail = str(message() if callable(message) else message or limit.limit)
        super().__init__(status_code=429, detail=detail, headers=headers)


class WebSocketRateLimitExceeded(WebSocketException, RateLimitExceeded):
    """A WebSocket, or one of its messages, was refused. Closes it with code 1008, unless somebody catches it.

    Before it is accepted, servers make a 403 of that. `reason` says when to come back; everything else is as of
    RateLimitExceeded.
    """

    def __init__(
        self,
        limit: Limit,
        *,
        detail: str | None = None,
        decision: Decision | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        RateLimitExceeded.__init__(self, limit, detail=detail, decision=decision, headers=headers)
        after_s = None if decision is None else decision.retry_after_s
        wait = "" if after_s is None else f"; retry after {after_s} s"
        # A reason has room for 123 bytes.
        told = f"Rate limit exceeded: {self.detail}".encode()[: 123 - len(wait)].decode("utf-8", "ignore")
        self.code = 1008
        self.reason = told + wait

    @classmethod
    def of(cls, error: RateLimitExceeded) -> WebSocketRateLimitExceeded:
        """The same refusal, of a WebSocket."""
        return cls(error.limit, detail=error.detail, decision=error.decision, headers=error.headers)


class WebSocketStorageOut(WebSocketException, StorageOut):
    """A WebSocket, or one of its messages, whose limits cannot be checked now: closed with 1013, try again later.

    `__cause__` is the StorageOut.
    """

    def __init__(self) -> None:
        StorageOut.__init__(self)
        self.code = 1013
        self.reason = self.detail


class WebSocketInvalidCost(WebSocketException, InvalidCost):
    """A WebSocket, or one of its messages, of which nobody can say what it costs: closed with 1008."""

    def __init__(self, where: str, detail: str) -> None:
        InvalidCost.__init__(self, where, detail)
        self.code = 1008
        self.reason = detail.encode()[:123].decode("utf-8", "ignore")


def as_of_websocket(error: RateLimitExceeded | StorageOut | InvalidCost) -> WebSocketException:
    """The same for a WebSocket, which an HTTP response is no answer to."""
    if isinstance(error, RateLimitExceeded):
        return WebSocketRateLimitExceeded.of(error)
    return WebSocketInvalidCost(error.where, error.detail) if isinstance(error, InvalidCost) else WebSocketStorageOut()
