"""The storages of a limiter."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from ..._rules.notation import ELASTIC, Strategy, strategy_named
from ..._storage.limits_package.strategies import opened_strategy
from ..._storage.memory import MemoryStorage, open_storage
from ..._storage.redis.storage import RedisStorage
from ..._storage.redis.uri import parse_redis_uri
from ..._storage.uri import OF_FILES, is_of_limits, is_redis
from ..._storage.uri_secrets import hiding_secrets
from ..settings import Counting


class Opened(NamedTuple):
    """Where a limiter counts: in a server or by a strategy of `limits` if there is one, else locally."""

    local: MemoryStorage
    redis: RedisStorage | None
    strategy_of_limits: Any | None
    strategy: Strategy


def open_storages(counting: Counting, logger: logging.Logger) -> Opened:
    """What the settings of a limiter name. Connects to no Redis.

    What counts instead of another storage, and for metrics, is common to the workers of a server, which know it by
    `name`.

    Raises ConfigurationError, and StorageError for what cannot be opened.
    """
    uri, options, strategy = counting.storage_uri, counting.storage_options, counting.strategy
    chosen = strategy_named(strategy or "moving-window")
    redis = strategy_of_limits = counted_by = None
    if uri is not None and is_redis(uri):
        redis = RedisStorage(parse_redis_uri(uri, options, logger), logger=logger)
    elif uri is not None and is_of_limits(uri):
        with hiding_secrets(uri):
            counted_by, strategy_of_limits = opened_strategy(uri, options, strategy, logger)
        chosen = strategy_named(counted_by)
    if strategy == ELASTIC and counted_by != ELASTIC:
        logger.warning("strategy=%r is counted as a fixed window, which hits do not prolong", strategy)
    is_elsewhere = redis is not None or strategy_of_limits is not None
    unknown = set() if is_elsewhere else options.keys() - set(OF_FILES)
    if unknown:
        # Not an error: programs leave those of Redis behind when they go on without it.
        logger.warning(
            "storage_options: these options have no meaning here, and are left aside: %s; known: %s",
            ", ".join(sorted(map(repr, unknown))),
            ", ".join(OF_FILES),
        )
    # A name with an @ is one that somebody took for that of a server.
    with hiding_secrets(uri if "@" in str(uri) else None):
        local = open_storage(
            None if is_elsewhere else uri,
            size=counting.size if counting.size is not None else options.get("size"),
            on_full=counting.on_full,
            clock=counting.clock,
            name=counting.name,
            is_beside=is_elsewhere,
            record_keys=counting.record_keys,
            **({} if is_elsewhere else {name: options.get(name) for name in ("on_damage", "mode", "group")}),
        )
    return Opened(local, redis, strategy_of_limits, chosen)
