"""The strategies of the `limits` package, on its storages and on what stands for those."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from typing import Any

import limits.aio.storage
import limits.aio.strategies
import limits.storage
import limits.strategies

from ..._rules.notation import ELASTIC
from ..._support.errors import ConfigurationError, StorageError


def strategy_on(storage: Any, name: str, logger: logging.Logger) -> Any:
    """The strategy of `limits` that has this name, on a storage of it, or on what has the methods of one.

    Raises ConfigurationError when there is none of that name.
    """
    known = _known(is_async=isinstance(storage, limits.aio.storage.Storage))
    if name not in known:
        raise ConfigurationError(f"strategy={name!r} is none that `limits` has, so its storages cannot count by it")
    if name == "moving-window" and not hasattr(storage, "acquire_entry"):
        logger.warning('%s has no moving windows, so "fixed-window" is used', type(storage).__name__)
        name = "fixed-window"
    strategy = known[name].__new__(known[name])
    # Not by its constructor, which wants a storage by its type.
    strategy.storage = storage
    return strategy


def is_strategy(counter: object) -> bool:
    """Whether `limits` has made it, or it is made as that does."""
    return isinstance(counter, (limits.strategies.RateLimiter, limits.aio.strategies.RateLimiter))


def opened_strategy(
    uri: str, options: Mapping[str, Any], strategy: str | None, logger: logging.Logger
) -> tuple[str, Any]:
    """A strategy of `limits` on the storage of a URI, and the name of it: moving windows when none is named.

    Raises ConfigurationError for what cannot be or is not installed, and StorageError for a storage that has to be
    reached when it is opened, and cannot be.
    """
    storage = _opened(uri, options)
    scheme = _scheme_of(uri)
    known = _known(is_async=uri.startswith("async+"))
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


def _known(*, is_async: bool) -> Mapping[str, Any]:
    known: Mapping[str, Any] = vars(limits.aio.strategies if is_async else limits.strategies)["STRATEGIES"]
    return known


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
