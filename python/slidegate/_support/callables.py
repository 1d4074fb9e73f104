"""Calls what users pass in with the arguments that it asks for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter
from typing import Any

from .errors import ConfigurationError

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a partial calls in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def wrapped_chain(function: Any) -> Iterator[Any]:
    """The function, what it wraps or is a partial of, and so on."""
    for _ in range(64):
        yield function
        function = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
        if function is None:
            return


def qualified_name(function: Callable[..., Any]) -> str:
    """Module and qualified name, also of partials and of objects with __call__."""
    function = innermost(function)
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def called_function(function: Any) -> Any:
    """What a call runs: the function itself, or the method of an object with __call__."""
    function = innermost(function)
    return function if inspect.isroutine(function) else type(function).__call__


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call is known to return a coroutine. A lambda around an async function is not seen here."""
    return inspect.iscoroutinefunction(innermost(function)) or inspect.iscoroutinefunction(called_function(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call returns a generator, asynchronous or not."""
    called = called_function(function)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


CALLED = "__slidegate_called__"
"""The attribute of a function that makes key functions: the one that it makes without arguments, or None if it needs
some."""


def adapt(function: Callable[..., Any], offers: Sequence[str], what: str, other: str | None) -> Callable[..., Any]:
    """`function`, to be called with all of `offers` as positional arguments, in their order.

    It gets those that it has parameters for, by name. One required positional parameter of another name, or a bare
    *args, gets `other`. Raises ConfigurationError, with `what` as its subject, for parameters that cannot be filled. A
    function that takes just the offers is returned as it is, and one that makes such functions stands for what it makes
    without arguments.
    """
    made = getattr(function, CALLED, function)
    if made is None:
        name = qualified_name(function).rpartition(".")[2]
        raise ConfigurationError(f"{what} {name} makes key functions, and is none itself; call it, as in {name}(...)")
    function = made
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function
    filled = _fill(parameters, offers, other)
    if isinstance(filled, Parameter):
        takes = " and ".join(repr(offer) for offer in offers)
        raise ConfigurationError(
            f"{what} {qualified_name(function)} has the parameter {filled.name!r}; it may take {takes}, or nothing"
        )
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    if [offers[at] for _, at in filled] == list(offers) and [p for p, _ in filled] == positional[: len(offers)]:
        return function
    by_position = [at for p, at in filled if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL)]
    by_name = [(p.name, at) for p, at in filled if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]

    def adapted(*given: Any) -> Any:
        return function(*[given[at] for at in by_position], **{name: given[at] for name, at in by_name})

    return adapted


def takes_nothing(function: Callable[..., Any]) -> bool:
    """Whether a call is the same whoever asks, as there are no parameters to say who does."""
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _fill(
    parameters: Sequence[Parameter], offers: Sequence[str], other: str | None
) -> list[tuple[Parameter, int]] | Parameter:
    """Which offer goes to which parameter, or else the parameter that nothing can be given to."""
    filled: list[tuple[Parameter, int]] = []
    for parameter in parameters:
        if parameter.kind is Parameter.VAR_KEYWORD:
            continue
        if parameter.kind is Parameter.VAR_POSITIONAL:
            if other is not None and not filled:
                filled.append((parameter, offers.index(other)))
        elif parameter.name in offers:
            filled.append((parameter, offers.index(parameter.name)))
        elif parameter.default is Parameter.empty:
            at = -1 if other is None else offers.index(other)
            if at < 0 or parameter.kind is Parameter.KEYWORD_ONLY or any(at == taken for _, taken in filled):
                return parameter
            filled.append((parameter, at))
    return filled
