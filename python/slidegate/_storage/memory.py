"""Counts in the memory of a process, or of several."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, TypeVar

from .._core import Clock, Limiter, Quota, Segment, SegmentError
from .._rules.bucket import Rule
from .._rules.limit_texts import limit_text, scope_text, text_of
from .._rules.options import OnFull
from .._support.errors import ConfigurationError, StorageError, StorageFull
from .._support.escaping import escaped
from .._support.fork import ForkableLock
from ..decision import NS_PER_S
from .base import Health, Policy
from .server_segment import common_segment, shared_segment, warn_of_memory
from .uri import StorageUri, bytes_in, group_in, mode_in, storage_uri
from .uri_secrets import shown_uri

_Value = TypeVar("_Value", int, str)

# Each takes about 1 KiB for a rule, as places shorten what is long.
_POLICIES_KEPT = 4096
_WHEN_FULL: dict[OnFull, str] = {
    "evict": 'as on_full="evict" says, new keys of other limits get places of this one, and its own new keys are'
    " refused when each of its keys is being refused",
    "refuse": 'as on_full="refuse" says, new keys are refused',
    "admit": 'as on_full="admit" says, requests with new keys pass uncounted',
}


class MemoryStorage:
    """Counts in the memory of this process, or in a segment that it shares with others. Thread-safe and lock-free.

    `is_alone` says that processes that answer the same clients are not known to count elsewhere.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        on_full: OnFull = "evict",
        clock: Clock | None = None,
        segment: Segment | None = None,
        record_keys: bool = False,
        space: str = "",
        is_alone: bool = False,
    ) -> None:
        options: dict[str, Any] = {} if size is None else {"size": size}
        self._engine = Limiter(
            on_full=on_full,
            clock=clock,
            segment=segment,
            record_keys=record_keys,
            full_error=StorageFull,
            notify=_warn,
            notify_full=partial(_warn_full, on_full),
            space=space,
            **options,
        )
        self._on_full = on_full
        self._spare: MemoryStorage | None = None
        self._making = ForkableLock()
        self.segment = segment
        self.is_alone = is_alone
        self.policy = lru_cache(_POLICIES_KEPT)(partial(_made, self._engine.policy))
        self.reader = lru_cache(_POLICIES_KEPT)(partial(_made, self._engine.reader))

    def reset(self) -> None:
        self._engine.reset()
        if self._spare is not None:
            self._spare.reset()

    def check(self) -> bool:
        """Whether hits can be counted now, those of new keys too."""
        return self._engine.shortage() is None

    def health(self) -> Health:
        """Whether there is memory or disk for new keys. Those that are there are counted in any case."""
        lasted_ns, outages = self._engine.shortage(), self._engine.shortages()
        error = f"{StorageFull.__name__}: the system has had no memory or disk for new keys" if outages else None
        return Health(lasted_ns is None, (lasted_ns or 0) / NS_PER_S, outages, error)

    @property
    def spare(self) -> MemoryStorage:
        """What counts while this one has no room: the memory of this process, which a segment is not."""
        if self._spare is None:
            with self._making:
                self._spare = self._spare or MemoryStorage(on_full=self._on_full)
        return self._spare

    def count_error(self, kind: str) -> None:
        """Counts a request that could not be decided as it was meant to be. `Checker` says of which kinds there are."""
        self._engine.count_error(kind)

    @property
    def engine(self) -> Limiter:
        return self._engine


def _made(make: Callable[[tuple[Rule, ...]], Policy], rules: tuple[Rule, ...]) -> Policy:
    try:
        return make(rules)
    except ValueError as error:
        raise ConfigurationError(f"{len(rules)} limits for one request: {error}") from error


def _warn(text: str) -> None:
    logging.getLogger("slidegate").warning("%s; on_error decides about requests with new keys until there is", text)


def _warn_full(on_full: OnFull, where: str, rule: tuple[Quota, bytes, bytes] | None, keys: int, places: int) -> None:
    if rule is None:
        limit = "a limit"
    else:
        quota, scope, name = rule
        told = [text_of(name), limit_text(quota), scope_text(text_of(scope))]
        limit = f"the limit '{escaped(' '.join(filter(None, told)))}'"
    logging.getLogger("slidegate").warning(
        "%s: no place is free for a new key: %s holds %d of the %d places that there are for keys of its kind; %s; a"
        " larger size has more places",
        where or "the memory of this process",
        limit,
        keys,
        places,
        _WHEN_FULL[on_full],
    )


def open_storage(
    uri: str | None,
    *,
    size: int | str | None,
    on_full: OnFull,
    clock: Clock | None,
    on_damage: str | None = None,
    mode: str | int | None = None,
    group: str | int | None = None,
    name: str | None = None,
    is_beside: bool = False,
    record_keys: bool = False,
) -> MemoryStorage:
    """The storage that `uri` names. When it is None, memory, of all workers of a server, which know it by `name`; it
    may be `is_beside` another storage, and be used when that is out.

    Raises ConfigurationError for what cannot be, and StorageError for what cannot be opened.
    """
    place = None if uri is None else storage_uri(str(uri))
    try:
        bytes_asked = _one_of("size", None if size is None else bytes_in(size), None if place is None else place.size)
        if bytes_asked == 0:
            raise ValueError("there is no storage of no size")
        if place is None:
            is_apart = clock is not None
            segment, space = common_segment(bytes_asked, name, is_beside=is_beside, is_apart=is_apart)
        else:
            segment, space = _segment_of(place, bytes_asked, on_damage, mode, group), ""
        storage = MemoryStorage(
            size=bytes_asked,
            on_full=on_full,
            clock=clock,
            segment=segment,
            record_keys=record_keys,
            space=space,
            is_alone=segment is None and not is_beside,
        )
    except SegmentError as error:
        raise StorageError(str(error)) from error
    except ConfigurationError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        where = f"storage_uri={shown_uri(str(uri))}, size={size!r}, on_full={on_full!r}"
        raise ConfigurationError(f"{where}: {error}") from error
    if place is not None and place.scheme == "memory":
        warn_of_memory()
    return storage


def _segment_of(
    place: StorageUri, size: int | None, on_damage: str | None, mode: str | int | None, group: str | int | None
) -> Segment | None:
    owners = _one_of("group", None if group is None else group_in(group), place.group)
    permissions = _one_of("mode", None if mode is None else mode_in(mode), place.mode)
    options: dict[str, Any] = {
        "size": size or 0,
        "on_damage": _one_of("on_damage", on_damage, place.on_damage) or "error",
        "mode": permissions or (0o600 if owners is None else 0o660),
        "group": owners,
    }
    if place.scheme == "shared":
        return shared_segment(place.place, **options)
    return Segment.file(place.place, **options) if place.scheme == "file" else None


def _one_of(name: str, *given: _Value | None) -> _Value | None:
    values = set(given) - {None}
    if len(values) > 1:
        raise ValueError(f"storage_uri says another {name}; say it once")
    return values.pop() if values else None
