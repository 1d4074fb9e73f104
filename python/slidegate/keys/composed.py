"""Key functions that are made of others."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

from starlette.requests import HTTPConnection

from .._rules.bucket import joined
from .._rules.resolver import is_keylike
from .._support.callables import adapt, is_async
from .._support.errors import ConfigurationError
from .identity import Identity, KeyFunction, choice_of_client, kinds_of, name_of

_POSITION = "#"
_COMBINED = "combined"


def first_of(*functions: KeyFunction) -> KeyFunction:
    """The key of the first function that knows one.

    Keys of different functions are never the same key: what may look like a key of another one begins with the position
    of its function, such as "#1:ada".
    """
    return (_AsyncFirstOf if any(map(is_async, functions)) else _FirstOf)(functions)


def combine(*functions: KeyFunction) -> KeyFunction:
    """All of the keys together, one user on one address, say, as "combined:" and each with its length. Empty when one
    of the functions knows none.
    """
    return (_AsyncCombined if any(map(is_async, functions)) else _Combined)(functions)


def with_fallback(function: KeyFunction, fallback: KeyFunction | None) -> KeyFunction:
    """The function, and what is asked when it knows nobody."""
    return function if fallback is None else first_of(function, fallback)


class _Composed(Identity):
    def __init__(self, functions: Sequence[KeyFunction]) -> None:
        kind = type(self).__name__.removeprefix("_Async").removeprefix("_")
        if not functions or not all(map(callable, functions)):
            raise ConfigurationError(f"{kind}: {functions!r} are no key functions, such as remote_address()")
        self._ask = [adapt(each, ("request",), "a key function", "request") for each in functions]
        self._leads, self.kinds = _led(functions)
        self.told = (" and " if issubclass(type(self), _Combined) else " or ").join(map(name_of, functions))
        self.chosen_by_client = next(filter(None, map(choice_of_client, functions)), None)


class _FirstOf(_Composed):
    def __call__(self, request: HTTPConnection) -> Any:
        for lead, ask in zip(self._leads, self._ask, strict=True):
            key = ask(request)
            if isawaitable(key):
                raise TypeError(f"{self.told}: a part is asynchronous, which its function has to say: `async def`")
            if not _is_missing(key):
                return f"{lead}{text_of(key)}"
        return ""


class _Combined(_Composed):
    def __init__(self, functions: Sequence[KeyFunction]) -> None:
        super().__init__(functions)
        self.kinds = frozenset({_COMBINED})

    def __call__(self, request: HTTPConnection) -> Any:
        keys = [ask(request) for ask in self._ask]
        return _together(keys)


class _AsyncFirstOf(_Composed):
    async def __call__(self, request: HTTPConnection) -> str:
        for lead, ask in zip(self._leads, self._ask, strict=True):
            key = ask(request)
            key = await key if isawaitable(key) else key
            if not _is_missing(key):
                return f"{lead}{text_of(key)}"
        return ""


class _AsyncCombined(_Combined):
    async def __call__(self, request: HTTPConnection) -> str:
        keys = [await key if isawaitable(key) else key for key in (ask(request) for ask in self._ask)]
        return _together(keys)


def _led(functions: Sequence[KeyFunction]) -> tuple[list[str], frozenset[str]]:
    """What the keys of each function are to begin with, so that none has a key of another; and all kinds of keys."""
    leads: list[str] = []
    all_kinds: set[str] = set()
    for at, function in enumerate(functions):
        kinds = kinds_of(function)
        # Positions within a part would look like those of the whole.
        is_apart = kinds is not None and kinds.isdisjoint(all_kinds) and not any(_POSITION in each for each in kinds)
        lead = "" if is_apart else f"{_POSITION}{at}"
        leads.append(lead and f"{lead}:")
        all_kinds |= kinds if kinds is not None and is_apart else {lead}
    return leads, frozenset(all_kinds)


def _together(keys: Sequence[Any]) -> str:
    return "" if any(map(_is_missing, keys)) else f"{_COMBINED}:{joined(*map(text_of, keys))}"


def _is_missing(key: object) -> bool:
    return key is None or key in ("", b"")


def text_of(key: Any) -> str:
    """A key as text. Raises TypeError for what is none, as it may be another text for each request."""
    if isinstance(key, bytes):
        return key.decode("utf-8", "surrogateescape")
    if not isinstance(key, str) and not is_keylike(key):
        raise TypeError(f"a key function returned a {type(key).__name__}; a key is a str, bytes or a number")
    return str(key)
