"""Limits that depend on the response: taken beforehand, and given back when the response says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from .._http.current_limit import CurrentLimit, view_of
from .._http.request_state import Record, see
from .._rules.hit import Hit, Outcome
from .._support.errors import StorageError
from .._support.escaping import escaped
from .._support.steps import Steps, awaited
from .._support.waiting import Wait


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the limits of one declaration have taken for a request, until its response is known."""

    hits: Sequence[Hit]
    refund: Callable[[Wait], Steps[object]]
    """Gives everything back, but for what has left the window by itself. Raises StorageError."""
    peek: Callable[[Sequence[Hit], Wait], Steps[Outcome]]
    """Of the backend that has taken them."""

    def release(self, record: Record, wait: Wait) -> Steps[None]:
        """Gives everything back, and brings up to date what is told of the request. Raises StorageError."""
        yield from self.refund(wait)
        view = view_of(record)
        hit = view.hit if isinstance(view, CurrentLimit) and view.raw_decision[0] else None
        if hit is not None and hit in self.hits:
            _, (_, _, remaining, reset_after_ns, _) = yield from self.peek([hit], wait)
            see(record, view.updated(remaining, reset_after_ns))


async def settle_reservations(record: Record, response: Response | None, wait: Wait, logger: logging.Logger) -> None:
    """Asks about the response what is to be kept, once for every reservation, and releases the others.

    What nobody can answer is kept: there was no response, or the callable failed.
    """
    reservations: list[Reservation] = record.reservations or []
    record.reservations = None
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
            await awaited(reservation.release(record, wait), wait)
        except StorageError as error:
            logger.warning("what a response gives back stays deducted: %s", escaped(error))
