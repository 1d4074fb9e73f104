"""Counting in the storages of the `limits` package, which reach what our own do not."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio.to_thread
import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies

from ..._rules.resolver import Hit, RequestContext
from ..._rules.strategies import ELASTIC
from ..._storage.base import Health
from ..._storage.limits_package.hits import LimitsPackageHits, Outcome
from ..._storage.limits_package.outage import Outage
from ..._support.callables import wait_in_thread
from ..._support.errors import ConfigurationError, StorageError
from ..._support.threads import ThreadsOfLoops

_MOST_THREADS = 40


class LimitsPackageBackend:
    """Counts charges by a strategy of `limits`; with an `outage`, elsewhere while its storage cannot be reached.

    `storage` and `strategy` are the objects of `limits`. What is synchronous runs in a worker thread where an event
    loop would have to wait for it: in threads of its own, so that a storage that does not answer holds up nobody
    else's. `LimitsPackageHits` says how several limits are counted. Thread-safe.
    """

    def __init__(self, strategy: Any, key_prefix: str, outage: Outage | None = None) -> None:
        self.strategy = strategy
        self.storage = strategy.storage
        self._tally = LimitsPackageHits(strategy, key_prefix)
        self._outage = outage
        self._threads = ThreadsOfLoops(_MOST_THREADS)
        self._probes: set[object] = set()

    def health(self) -> Health:
        """Whether the storage is asked now. Without an outage to watch for, it always is."""
        return Health(True, 0, 0, None) if self._outage is None else self._outage.health()

    def watch(self, outage: Outage) -> None:
        """Has requests counted elsewhere, from now on, while the storage cannot be reached."""
        self._outage = self._outage or outage

    def with_prefix(self, key_prefix: str) -> LimitsPackageBackend:
        """The same, under other keys."""
        return LimitsPackageBackend(self.strategy, key_prefix, self._outage)

    async def count(
        self, hits: Sequence[Hit], context: RequestContext, count_elsewhere: Callable[[], Awaitable[Outcome | None]]
    ) -> Outcome | None:
        """Takes all of the charges, if there is enough left of each, and says about which there is least.

        Raises what the storage does, unless there is something to fall back on.
        """
        outage = self._outage
        if outage is None:
            return await self._count(hits, context)
        if outage.is_on:
            if outage.is_to_be_probed():
                await self._probe(context, outage)
            return await count_elsewhere()
        try:
            return await self._count(hits, context)
        except Exception as error:
            outage.begin(error)
            return await count_elsewhere()

    async def peek(self, hits: Sequence[Hit], context: RequestContext) -> Outcome:
        """What would be said about the charges, which are not taken. Raises what the storage does."""
        if self._tally.is_async:
            outcome: Outcome = await context.wait(self._tally.peek_all_async(hits))
            return outcome
        if context.wait is wait_in_thread:
            return self._tally.peek_all(hits)
        return await anyio.to_thread.run_sync(self._tally.peek_all, hits, limiter=self._threads.own())

    async def _count(self, hits: Sequence[Hit], context: RequestContext) -> Outcome:
        if self._tally.is_async:
            counted: Outcome = await context.wait(self._tally.hit_all_async(hits))
            return counted
        if context.wait is wait_in_thread:
            return self._tally.hit_all(hits)
        return await anyio.to_thread.run_sync(self._tally.hit_all, hits, limiter=self._threads.own())

    async def _probe(self, context: RequestContext, outage: Outage) -> None:
        if self._tally.is_async:
            await context.wait(self._probe_later(outage))
            return
        outage.probe_apart(self.storage.check)

    async def _probe_later(self, outage: Outage) -> None:
        task = asyncio.ensure_future(outage.probe_async(self.storage.check))
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)


def strategy_on(storage: Any, name: str, logger: logging.Logger) -> Any:
    """The strategy of `limits` that has this name, on a storage of it, or on what has the methods of one.

    Raises ConfigurationError when there is none of that name.
    """
    module = limits.aio if isinstance(storage, limits.aio.storage.Storage) else limits
    known: Mapping[str, Any] = vars(module.strategies)["STRATEGIES"]
    if name not in known:
        raise ConfigurationError(f"strategy={name!r} is none that `limits` has, so its storages cannot count by it")
    if name == "moving-window" and not hasattr(storage, "acquire_entry"):
        logger.warning('%s has no moving windows, so "fixed-window" is used', type(storage).__name__)
        name = "fixed-window"
    strategy = known[name].__new__(known[name])
    # Not by its constructor, which wants a storage by its type.
    strategy.storage = storage
    return strategy


def is_strategy_of_limits(counter: object) -> bool:
    """Whether a `LimitsPackageBackend` can count by it, and nobody has replaced what hits."""
    known = (limits.strategies.RateLimiter, limits.aio.strategies.RateLimiter)
    return isinstance(counter, known) and "hit" not in vars(counter)


def opened_strategy(
    uri: str, options: Mapping[str, Any], strategy: str | None, logger: logging.Logger
) -> tuple[str, Any]:
    """A strategy of `limits` on the storage of a URI, and the name of it: moving windows when none is named.

    Raises ConfigurationError for what cannot be or is not installed, and StorageError for a storage that has to be
    reached when it is opened, and cannot be.
    """
    storage = _opened(uri, options)
    scheme = _scheme_of(uri)
    known: Mapping[str, Any] = vars(limits.aio.strategies if uri.startswith("async+") else limits.strategies)[
        "STRATEGIES"
    ]
    chosen = strategy or "moving-window"
    if chosen == ELASTIC and chosen not in known:
        chosen = "fixed-window"
    if chosen not in known:
        raise ConfigurationError(f"strategy={chosen!r} is none that {scheme} has: {', '.join(sorted(known))}")
    try:
        return chosen, known[chosen](storage)
    except NotImplementedError as error:
        if strategy is not None:
            raise ConfigurationError(
                f"strategy={chosen!r} is none that {scheme} has; it has {', '.join(_had_by(storage, known))}"
            ) from error
    logger.warning('%s has no moving windows, so strategy="fixed-window" is used; name it', scheme)
    return "fixed-window", known["fixed-window"](storage)


def _had_by(storage: Any, known: Mapping[str, Any]) -> list[str]:
    had = []
    for name, kind in sorted(known.items()):
        try:
            kind(storage)
        except NotImplementedError:
            continue
        had.append(repr(name))
    return had


def _opened(uri: str, options: Mapping[str, Any]) -> Any:
    refusal: type[Exception] = ConfigurationError
    try:
        return limits.storage.storage_from_string(uri, **options)
    except limits.errors.ConfigurationError as error:
        message = f"storage_uri: {_scheme_of(uri)} cannot be used here: {error}{_advice(str(error))}"
    except (ValueError, TypeError, LookupError, AttributeError, ImportError) as error:
        message = f"storage_uri: {_scheme_of(uri)} and its storage_options: {error}"
    except Exception as error:
        refusal = StorageError
        message = f"storage_uri: {_scheme_of(uri)} cannot be opened now: {type(error).__name__}: {error}"
    raise refusal(_without_credentials(message, uri))


def _advice(error: str) -> str:
    missing = re.match(r"'?([\w-]+)[\w.-]*'? prerequisite", error)
    if missing is None:
        return ""
    choices = inspect.signature(limits.aio.storage.RedisStorage).parameters
    is_other_way = missing[1] == "coredis" and "implementation" in choices
    other = """, or redis with storage_options={"implementation": "redispy"}""" if is_other_way else ""
    return f"; pip install {missing[1]}{other}"


def _without_credentials(message: str, uri: str) -> str:
    address = uri.partition("://")[2].partition("/")[0]
    credentials = address.rpartition("@")[0]
    for secret in (uri, address, credentials, credentials.partition(":")[2]):
        message = message.replace(secret, "...") if secret else message
    return message


def _scheme_of(uri: str) -> str:
    return uri.partition("://")[0] + "://"
