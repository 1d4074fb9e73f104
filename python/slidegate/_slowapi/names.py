"""What stands for slowapi's private names in a limiter that keeps things otherwise.

Each can be read, set and, for mock.patch, deleted. What is set, or changed in place where it is a list or a dictionary,
takes effect with the next request. Raises ConfigurationError for values that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from .._limiter.core import LimiterCore
from .._limiter.planner import LimitedEndpoint
from .._rules.limit import Limit
from .._rules.limit_group import LimitGroup
from .._support.errors import ConfigurationError
from .observed import observed


class Name:
    """The name of what is `kept` under another: as it is `made` of what is set, and with what `follows` from that.

    What is `shown` is the same if nothing else is named, and for lists and dictionaries a copy, which is set again when
    it is changed in place.
    """

    def __init__(
        self,
        kept: str,
        *,
        shown: str = "",
        made: Callable[[Any, str, Any], Any] = lambda limiter, name, value: value,
        follows: Callable[[Any], None] = lambda limiter: None,
    ) -> None:
        self._kept, self._read = kept.rpartition("."), attrgetter(shown or kept)
        self._made, self._follows = made, follows

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, limiter: Any, owner: type) -> Any:
        if limiter is None:
            return self
        if self.name in vars(limiter):
            raise AttributeError(self.name)
        return observed(self._read(limiter), partial(self.__set__, limiter))

    def __set__(self, limiter: Any, value: Any) -> None:
        holder, _, kept = self._kept
        setattr(attrgetter(holder)(limiter) if holder else limiter, kept, self._made(limiter, self.name, value))
        self._follows(limiter)
        vars(limiter).pop(self.name, None)
        limiter.renew()

    def __delete__(self, limiter: Any) -> None:
        # As mock.patch does, which sets it again if it is gone.
        vars(limiter)[self.name] = None


class RouteLimits(Name):
    """The name of a dictionary of what decorators have declared, of this kind, by the names of endpoints."""

    def __init__(self, kind: type) -> None:
        super().__init__("planner")
        self._kind = kind

    def __get__(self, limiter: Any, owner: type) -> Any:
        if limiter is None:
            return self

        def changed(_: object) -> None:
            for name, limits in shown.items():
                if not hasattr(limits, "changed"):
                    dict.__setitem__(shown, name, observed(list(limits), changed))
            self.__set__(limiter, shown)

        put, _ = self.put(limiter) or ({}, None)
        names = dict.fromkeys([*put, *limiter.planner.endpoints])
        lists = {name: observed(self.now(limiter, name), changed) for name in names}
        shown = observed({name: limits for name, limits in lists.items() if limits or name in put}, changed)
        return shown

    def __set__(self, limiter: Any, limits: Mapping[str, Iterable[Any]]) -> None:
        lists = {name: list(each) for name, each in limits.items()}
        for name, each in [(name, each) for name, every in lists.items() for each in every]:
            if not isinstance(each, self._kind):
                raise ConfigurationError(f"{name}: {each!r} is no {self._kind.__name__}")
            _watch(limiter, [each])
        declared = {id(each) for name in limiter.planner.endpoints for each in self._declared(limiter, name)}
        vars(limiter)[self.name] = (lists, declared)
        limiter.renew()

    def __delete__(self, limiter: Any) -> None:
        vars(limiter).pop(self.name, None)
        limiter.renew()

    def put(self, limiter: Any) -> tuple[dict[str, list[Any]], set[int]] | None:
        """What somebody has put in the place of all that was declared until then, and the ids of that."""
        put: tuple[dict[str, list[Any]], set[int]] | None = vars(limiter).get(self.name)
        return put

    def now(self, limiter: Any, name: str) -> list[Any]:
        """What there is for the endpoints of a name."""
        put, replaced = self.put(limiter) or ({}, ())
        return [*put.get(name, ()), *(each for each in self._declared(limiter, name) if id(each) not in replaced)]

    def _declared(self, limiter: Any, name: str) -> Iterable[Any]:
        limits = (limit for endpoint in limiter.planner.endpoints.get(name, ()) for limit in declared_by(endpoint))
        return {id(each): each for each in limits if isinstance(each, self._kind)}.values()


def declared_by(endpoint: LimitedEndpoint) -> Iterator[Limit | LimitGroup]:
    """What the decorators of an endpoint have declared: limits, and groups of those that are not known beforehand."""
    for group in endpoint.groups:
        yield from [group] if group.limits is None else group.limits


def groups_of(limiter: LimiterCore, endpoint: LimitedEndpoint) -> Sequence[LimitGroup]:
    """The limits of an endpoint, without those that somebody has taken away, and with those that were put there."""
    name, groups = endpoint.name, endpoint.groups
    if not (FIXED.put(limiter) or DYNAMIC.put(limiter) or any(map(_is_changed, declared_by(endpoint)))):
        return groups
    now = [*FIXED.now(limiter, name), *DYNAMIC.now(limiter, name)]
    declared = {id(each) for namesake in limiter.planner.endpoints.get(name, ()) for each in declared_by(namesake)}
    left = {id(each) for each in now if not _is_changed(each)}
    owners = {id(limit): group for group in groups for limit in group.limits or ()}
    kept = [each for each in (_reduced(group, left) for group in groups) if each is not None]
    for each in now:
        if id(each) not in declared or _is_changed(each):
            is_group = isinstance(each, LimitGroup)
            kept.append(each if is_group else LimitGroup.of(each, limiter.strategy, name, owners.get(id(each))))
    return kept


def _reduced(group: LimitGroup, left: set[int]) -> LimitGroup | None:
    if group.limits is None:
        return group if id(group) in left else None
    limits = [limit for limit in group.limits if id(limit) in left]
    return group.copied(limits=tuple(limits)) if limits else None


def _is_changed(limit: object) -> bool:
    return bool(getattr(limit, "is_changed", False))


def _watch(limiter: Any, limits: Iterable[Any]) -> None:
    for each in limits:
        if hasattr(each, "watch"):
            each.watch(limiter.renew)


def functions_of(limiter: Any, name: str, values: Iterable[Any]) -> list[Any]:
    """The functions that are put into a list."""
    values = list(values)
    for each in values:
        if not callable(each):
            raise ConfigurationError(f"{name}: {each!r} is no function")
    return values


def limits_of(limiter: Any, name: str, values: Iterable[Any]) -> list[Any]:
    """The limits that are put into a list, of which the limiter is told when they are changed."""
    values = list(values)
    for each in values:
        if isinstance(each, (str, bytes)) or not isinstance(each, Iterable):
            raise ConfigurationError(f"{name}: {each!r} is no LimitGroup, and yields no Limits")
    _watch(limiter, values)
    return values


FIXED = RouteLimits(Limit)
DYNAMIC = RouteLimits(LimitGroup)
