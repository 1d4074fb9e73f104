"""Counting in the storages of the `limits` package, which reach what our own do not."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeAlias

import limits.aio.strategies
import limits.storage
import limits.strategies
from starlette.concurrency import run_in_threadpool

from ._callables import settle_blocking
from ._charges import Asked, Charge
from ._wall import wall_time_s
from .decision import NS_PER_S, Essentials
from .errors import ConfigurationError

Outcome: TypeAlias = tuple[Charge, Essentials]

_LONGEST_REST_S = 32


class Bridge:
    """A storage of `limits`, with its strategy: counts charges there, and elsewhere while that cannot be reached.

    `storage` and `strategy` are the objects of `limits`. What is synchronous runs in a worker thread where an event
    loop would have to wait for it. Several limits of a request are tested before any of them is hit, so that a refusal
    takes nothing; requests at the same moment can come between, as these storages cannot take all or none.
    Thread-safe.
    """

    def __init__(
        self,
        uri: str,
        options: Mapping[str, Any],
        strategy: str | None,
        key_prefix: str,
        falls_back: bool,
        logger: logging.Logger,
    ) -> None:
        self.storage = _opened(uri, options)
        self.is_async = uri.startswith("async+")
        self.strategy_name, self.strategy = self._strategy(uri, strategy, logger)
        self._key_prefix = key_prefix
        self._outage = Outage(logger) if falls_back else None
        self._probes: set[object] = set()

    @property
    def is_out(self) -> bool:
        """Whether requests are counted elsewhere, as the storage was not to be reached."""
        return self._outage is not None and self._outage.is_on

    async def count(
        self, charges: Sequence[Charge], asked: Asked, count_elsewhere: Callable[[], Awaitable[Outcome | None]]
    ) -> Outcome | None:
        """Takes all of the charges, if there is enough left of each, and says about which there is least.

        Raises what the storage does, unless there is something to fall back on.
        """
        outage = self._outage
        if outage is None:
            return await self._count(charges, asked)
        if outage.is_on:
            if outage.is_to_be_probed():
                await self._probe(asked, outage)
            return await count_elsewhere()
        try:
            return await self._count(charges, asked)
        except Exception as error:
            outage.begin(error)
            return await count_elsewhere()

    def reset(self) -> None:
        """Forgets all hits. Raises NotImplementedError where the storage cannot, as `limits` has it."""
        if self.is_async:
            raise NotImplementedError("the storage is asynchronous; await limiter._storage.reset()")
        self.storage.reset()

    async def _count(self, charges: Sequence[Charge], asked: Asked) -> Outcome:
        if self.is_async:
            counted: Outcome = await asked.settle(self._hit_all_async(charges))
            return counted
        if asked.settle is settle_blocking:
            return self._hit_all(charges)
        return await run_in_threadpool(self._hit_all, charges)

    def _hit_all(self, charges: Sequence[Charge]) -> Outcome:
        strategy, least = self.strategy, None
        if len(charges) > 1:
            for charge in charges:
                if not strategy.test(*self._bucket(charge), cost=charge.cost):
                    return charge, _essentials(False, strategy.get_window_stats(*self._bucket(charge)))
        for charge in charges:
            is_admitted = strategy.hit(*self._bucket(charge), cost=charge.cost)
            outcome = charge, _essentials(is_admitted, strategy.get_window_stats(*self._bucket(charge)))
            if not is_admitted:
                return outcome
            least = _scarcer(least, outcome)
        assert least is not None
        return least

    async def _hit_all_async(self, charges: Sequence[Charge]) -> Outcome:
        strategy, least = self.strategy, None
        if len(charges) > 1:
            for charge in charges:
                if not await strategy.test(*self._bucket(charge), cost=charge.cost):
                    return charge, _essentials(False, await strategy.get_window_stats(*self._bucket(charge)))
        for charge in charges:
            is_admitted = await strategy.hit(*self._bucket(charge), cost=charge.cost)
            outcome = charge, _essentials(is_admitted, await strategy.get_window_stats(*self._bucket(charge)))
            if not is_admitted:
                return outcome
            least = _scarcer(least, outcome)
        assert least is not None
        return least

    def _bucket(self, charge: Charge) -> tuple[Any, ...]:
        # The identifiers of slowapi, so that what it has counted goes on to count.
        prefix = (self._key_prefix,) if self._key_prefix else ()
        return (charge.limit.limit, *prefix, charge.key, charge.place.label)

    async def _probe(self, asked: Asked, outage: Outage) -> None:
        # Nobody waits for it where that can be: a storage that answers nobody may take its time.
        if not self.is_async:
            threading.Thread(
                target=outage.probe, args=(self.storage.check,), name="slidegate storage probe", daemon=True
            ).start()
        elif asked.settle is settle_blocking:
            await asked.settle(outage.probe_async(self.storage.check))
        else:
            task = asyncio.ensure_future(outage.probe_async(self.storage.check))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    def _strategy(self, uri: str, name: str | None, logger: logging.Logger) -> tuple[str, Any]:
        module: Any = limits.aio.strategies if self.is_async else limits.strategies
        known: Mapping[str, Any] = module.STRATEGIES
        chosen = name or "moving-window"
        if chosen not in known:
            raise ConfigurationError(
                f"strategy={chosen!r} is none that {_scheme_of(uri)} has: {', '.join(sorted(known))}"
            )
        try:
            return chosen, known[chosen](self.storage)
        except NotImplementedError as error:
            if name is not None:
                raise ConfigurationError(
                    f"strategy={chosen!r} is none that {_scheme_of(uri)} has; it has 'fixed-window'"
                ) from error
        logger.warning('%s has no moving windows, so strategy="fixed-window" is used; name it', _scheme_of(uri))
        return "fixed-window", known["fixed-window"](self.storage)


class Outage:
    """Whether a storage is out of reach, and when to ask again: after 1, 2, 4, ... seconds. Thread-safe."""

    def __init__(self, logger: logging.Logger) -> None:
        self.is_on = False
        self._logger = logger
        self._lock = threading.Lock()
        self._rest_s = 1
        self._asks_at_s = 0.0

    def begin(self, error: Exception) -> None:
        """The storage was not to be reached."""
        with self._lock:
            is_new, self.is_on = not self.is_on, True
            if is_new:
                self._rest_s = 1
                self._asks_at_s = monotonic() + 1
        if is_new:
            self._logger.warning("Rate limit storage unreachable - falling back to in-memory storage: %r", error)

    def is_to_be_probed(self) -> bool:
        """Whether the caller is the one to ask, now."""
        with self._lock:
            if not self.is_on or monotonic() < self._asks_at_s:
                return False
            # Nobody else until it has answered, or has had time enough to.
            self._asks_at_s = monotonic() + _LONGEST_REST_S
            return True

    def rest(self) -> None:
        """It is not back."""
        with self._lock:
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            self._asks_at_s = monotonic() + self._rest_s

    def probe(self, check: Callable[[], object]) -> None:
        """Asks the storage, and ends when it is back."""
        try:
            is_back = bool(check())
        except Exception:
            is_back = False
        self._end() if is_back else self.rest()

    async def probe_async(self, check: Callable[[], Awaitable[object]]) -> None:
        """The same for an asynchronous one."""
        try:
            is_back = bool(await check())
        except Exception:
            is_back = False
        self._end() if is_back else self.rest()

    def _end(self) -> None:
        with self._lock:
            self.is_on = False
        self._logger.info("Rate limit storage recovered")


def _opened(uri: str, options: Mapping[str, Any]) -> Any:
    try:
        return limits.storage.storage_from_string(uri, **options)
    except limits.errors.ConfigurationError as error:
        missing = re.match(r"'?([\w.-]+)'? prerequisite", str(error))
        advice = f"; pip install {missing[1]}" if missing else ""
        message = f"storage_uri: {_scheme_of(uri)} cannot be used here: {error}{advice}"
    except Exception as error:
        message = f"storage_uri: {_scheme_of(uri)} and its storage_options: {error}"
    raise ConfigurationError(_without_credentials(message, uri))


def _without_credentials(message: str, uri: str) -> str:
    address = uri.partition("://")[2].partition("/")[0]
    credentials = address.rpartition("@")[0]
    for secret in (uri, address, credentials, credentials.partition(":")[2]):
        message = message.replace(secret, "...") if secret else message
    return message


def _scheme_of(uri: str) -> str:
    return uri.partition("://")[0] + "://"


def _essentials(is_admitted: bool, stats: Any) -> Essentials:
    reset_time_s, remaining = stats
    reset_after_ns = max(0, round((reset_time_s - wall_time_s()) * NS_PER_S))
    return is_admitted, 0, max(0, remaining), reset_after_ns, 0 if is_admitted else max(1, reset_after_ns)


def _scarcer(least: Outcome | None, outcome: Outcome) -> Outcome:
    return outcome if least is None or outcome[1][2] < least[1][2] else least
