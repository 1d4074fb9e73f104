"""Limits that depend on the response: taken beforehand, and given back when the response says so."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._http.state import Record
from .._rules.resolver import Hit
from .._storage.redis.storage import RedisPolicy
from .._support.callables import Wait, wait_in_thread
from .._support.errors import StorageError
from .._support.escaping import escaped


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the limits of one declaration have taken for a request, until its response is known."""

    policy: Any
    ticket: Any
    hits: tuple[Hit, ...]
    keys: tuple[str, ...]
    refresh: Callable[[Record, Reservation, Wait], Awaitable[None]]
    """Brings what is told of the request up to date after a release."""

    async def release(self, wait: Wait) -> None:
        """Gives everything back, but for what has left the window by itself. Raises StorageError."""
        if isinstance(self.policy, RedisPolicy) and wait is not wait_in_thread:
            await self.policy.refund_async(self.ticket)
        else:
            self.policy.refund(self.ticket)


async def settle_reservations(record: Record, response: Response | None, wait: Wait, logger: logging.Logger) -> None:
    """Asks about the response what is to be kept, once for every hold of the request, and releases the others.

    What nobody can answer is kept: there was no response, or the callable failed.
    """
    reservations: list[Reservation] = record.holds or []
    record.holds = None
    for reservation in reservations if response is not None else []:
        group = reservation.hits[0].group
        assert group.read_deduct is not None
        try:
            is_kept = group.read_deduct(response)
            is_kept = await wait(is_kept) if hasattr(is_kept, "__await__") else is_kept
        except Exception:
            logger.exception("deduct_when failed for a response; its limits stay deducted")
            continue
        if is_kept:
            continue
        try:
            await reservation.release(wait)
            await reservation.refresh(record, reservation, wait)
        except StorageError as error:
            logger.warning("what a response gives back stays deducted: %s", escaped(error))


def response_of(connection: HTTPConnection, result: Any, filled: Response | None) -> Response:
    """The response that the framework will make of what an endpoint returned, as far as its status goes.

    `filled` is the one that the endpoint could write headers and a status to.
    """
    if isinstance(result, Response):
        return result
    status = filled.status_code if filled is not None else None
    status = status or getattr(connection.scope.get("route"), "status_code", None) or 200
    return Response(status_code=status, headers=filled.headers if filled is not None else None)


def response_to(connection: HTTPConnection, error: Exception) -> Response | None:
    """The response that will come of an exception; None when only its handler knows."""
    if isinstance(error, HTTPException):
        return Response(status_code=error.status_code, headers=error.headers)
    handlers = getattr(connection.scope.get("app"), "exception_handlers", {})
    known = {kind for kind in type(error).__mro__ if kind in handlers} - {Exception}
    return None if known else Response(status_code=500)
