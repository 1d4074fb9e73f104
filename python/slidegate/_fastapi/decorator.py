"""Decorated endpoints: the functions that the framework calls in their stead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any, NoReturn
from weakref import WeakSet

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._http.current_limit import CurrentLimit, view_in
from .._http.request_doubles import as_request
from .._http.request_state import record_of
from .._http.response import response_of, response_to
from .._limiter.core import LimiterCore
from .._rules.limit_group import LimitGroup
from .._rules.plan import Check
from .._support.callables import innermost, is_async, is_generator, qualified_name, wrapped_chain
from .._support.waiting import Wait, run_blocking, wait_in_thread, wait_on_loop
from .signatures import ADDED_REQUEST, Slot, request_slot, resolved_signature, response_slot, with_parameter

_MARK = "__slidegate__"
_LIMITED_BY = "__slidegate_limited_by__"


class Endpoint:
    """A function and its limits. Decorators that are stacked on it add to it; its wrappers share it.

    `check` is replaced as limits are added, also after the framework has got a wrapper to call.
    """

    def __init__(self, limiter: LimiterCore, function: Callable[..., Any], inherited: list[LimitGroup]) -> None:
        self.limiter = limiter
        self.function = function
        self.name = qualified_name(function)
        self.groups = inherited
        self.is_waiting = False
        self.is_holding = False
        # Whether it was told that a wrapper has answered without it.
        self.is_told_of = False
        self.wrappers: list[Callable[..., Any]] = []
        self.check: Check
        with suppress(AttributeError, TypeError):
            # Bound methods and builtins take no attributes.
            vars(function).setdefault(_LIMITED_BY, WeakSet()).add(self)

    @classmethod
    def of(cls, limiter: LimiterCore, function: Callable[..., Any]) -> Endpoint:
        """The endpoint that a decorator is about to limit.

        Somebody's own decorator over a limited function starts a new one, which has the same limits: checked first, it
        decides them all.
        """
        known = getattr(function, _MARK, None)
        if not isinstance(known, Endpoint) or known.limiter is not limiter:
            return cls(limiter, function, [])
        return known if function in known.wrappers else cls(limiter, function, list(known.groups))

    def wrap(self, previous: Callable[..., Any]) -> Callable[..., Any]:
        """The function to be called instead; `previous`, if that is one. Its signature asks for what checks need."""
        before = (self.is_waiting, self.is_holding)
        plan = self.limiter.planner.plan_of(self)
        instead = (*plan.fallback, *self.limiter.checker.backend.limits)
        # A check that waits for the event loop must not hold a thread that what it waits for may need.
        self.is_waiting = any(group.is_async for group in (*self.groups, *plan.groups, *instead))
        self.is_holding = any(group.read_deduct is not None for group in self.groups)
        if previous in self.wrappers and before == (self.is_waiting, self.is_holding):
            return previous
        unwrapped = inspect.unwrap(innermost(self.function))
        if is_generator(unwrapped):
            # It may be called on the event loop, where nothing may block.
            is_waiting = self.is_waiting or self.limiter.redis is not None
            wrapper = self._gated() if is_waiting else self._synchronous()
        elif is_async(self.function):
            wrapper = self._asynchronous(self.function)
        elif is_async(unwrapped):
            wrapper = self._asynchronous(_awaiting(self.function))
        elif self.is_waiting:
            wrapper = self._asynchronous(functools.partial(run_in_threadpool, self.function))
        else:
            wrapper = self._synchronous()
        kept = dict(vars(previous)) if inspect.isfunction(previous) else {}
        kept.pop(_LIMITED_BY, None)
        vars(wrapper).update({**kept, **vars(wrapper), _MARK: self})
        self.wrappers.append(wrapper)
        return wrapper

    # The parameter of the wrappers is where an added request arrives: to name it is quicker than to take it out of
    # **kwargs. A wrapped wrapper, of another limiter, wants it passed on.

    def _asynchronous(self, function: Callable[..., Any]) -> Callable[..., Any]:
        limiter, is_holding = self.limiter, self.is_holding
        signature, request_at, response_at = self._slots()
        name, is_passed_on = request_at.quick_name, request_at.name == ADDED_REQUEST and not request_at.is_added

        async def wrapper(*args: Any, slidegate_request: Any = None, **kwargs: Any) -> Any:
            request = kwargs.get(name) if slidegate_request is None else slidegate_request
            if request is None:
                request, args = request_at.take(args, kwargs)
            elif is_passed_on:
                kwargs[name] = request
            if limiter.enabled:
                if request is None:
                    self._no_request()
                pending = self.check(request, wait_on_loop)
                if pending is not None:
                    await pending
            response = None
            if response_at is not None:
                response, args = response_at.take(args, kwargs)
            if is_holding and request is not None:
                result = await self._held(request, wait_on_loop, response, function, args, kwargs)
            else:
                result = await function(*args, **kwargs)
            if response_at is not None or limiter.headers_enabled:
                self._write_headers(request, result, response)
            return result

        return self._dressed(wrapper, signature)

    def _synchronous(self) -> Callable[..., Any]:
        limiter, function, is_holding = self.limiter, self.function, self.is_holding
        signature, request_at, response_at = self._slots()
        name, is_passed_on = request_at.quick_name, request_at.name == ADDED_REQUEST and not request_at.is_added

        def wrapper(*args: Any, slidegate_request: Any = None, **kwargs: Any) -> Any:
            request = kwargs.get(name) if slidegate_request is None else slidegate_request
            if request is None:
                request, args = request_at.take(args, kwargs)
            elif is_passed_on:
                kwargs[name] = request
            if limiter.enabled:
                if request is None:
                    self._no_request()
                pending = self.check(request, wait_in_thread)
                if pending is not None:
                    run_blocking(pending)
            response = None
            if response_at is not None:
                response, args = response_at.take(args, kwargs)
            if is_holding and request is not None:
                result = run_blocking(self._held(request, wait_in_thread, response, function, args, kwargs))
            else:
                result = function(*args, **kwargs)
            if response_at is not None or limiter.headers_enabled:
                self._write_headers(request, result, response)
            return result

        return self._dressed(wrapper, signature)

    def _slots(self) -> tuple[inspect.Signature, Slot, Slot | None]:
        signature, request_at = request_slot(resolved_signature(self.function))
        if not self.limiter.headers_enabled and not self.is_holding:
            return signature, request_at, None
        signature, response_at = response_slot(signature)
        return signature, request_at, response_at

    def _gated(self) -> Callable[..., Any]:
        # A stream's endpoint is called, not awaited, and only runs once its response has begun. What has to be awaited
        # to decide about it is therefore made one of its dependencies.
        from fastapi import Depends

        limiter, function = self.limiter, self.function

        async def gate(request: HTTPConnection, response: Response) -> HTTPConnection:
            if limiter.enabled:
                pending = self.check(request, wait_on_loop)
                if pending is not None:
                    await pending
                await self._settle(request, wait_on_loop, response_of(request, None, response))
                self._write_headers(request, None, response)
            return request

        signature, name = with_parameter(resolved_signature(function), "slidegate_gate", Annotated[Any, Depends(gate)])

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if kwargs.pop(name, None) is None and limiter.enabled:
                self._no_request()
            return function(*args, **kwargs)

        return self._dressed(wrapper, signature)

    async def _held(
        self,
        request: HTTPConnection,
        wait: Wait,
        response: Response | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Calls the function, and settles what depends on the response that comes of it."""
        request = as_request(request)
        try:
            result = function(*args, **kwargs)
            result = await result if inspect.iscoroutine(result) else result
        except Exception as error:
            await self._settle(request, wait, response_to(request, error))
            raise
        await self._settle(request, wait, response_of(request, result, response))
        return result

    async def _settle(self, request: HTTPConnection, wait: Wait, response: Response | None) -> None:
        record = record_of(as_request(request))
        if not record.is_held_by_middleware:
            await self.limiter.checker.settle(record, response, wait)

    def _write_headers(self, request: HTTPConnection | None, result: Any, response: Response | None) -> None:
        response = result if isinstance(result, Response) else response
        if request is None or response is None:
            return
        limiter, view, raw = self.limiter, view_in(as_request(request).scope), response.raw_headers
        is_written = limiter.enabled and limiter.headers_enabled and not limiter.is_writing_patched
        if type(view) is CurrentLimit and is_written:
            raw[:] = limiter.headers.written(raw, view[0], view.raw_decision, view.policies)
        else:
            limiter.inject_headers(response, view)

    def _no_request(self) -> NoReturn:
        raise TypeError(f"{self.name} is rate limited and was called without a request to count")

    def _dressed(self, wrapper: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
        named: Any = innermost(self.function)
        if not hasattr(named, "__qualname__"):
            named = type(named)
        functools.update_wrapper(wrapper, named, updated=())
        vars(wrapper).update({"__wrapped__": self.function, "__signature__": signature})
        return wrapper


def endpoint_behind(limiter: LimiterCore, function: Any) -> Endpoint | None:
    """The endpoint of this limiter that a call of the function runs into, as far as wrappers tell what they wrap."""
    return next((endpoint for endpoint in endpoints_behind(function) if endpoint.limiter is limiter), None)


def is_verified(limiter: LimiterCore, function: Any) -> bool:
    """Whether a decorator of the limiter, if the function has one, is called for sure whenever the function is.

    It is where nothing of others stands above it.
    """
    if inspect.isclass(function) or endpoint_behind(limiter, function) is None:
        return True
    for each in wrapped_chain(function):
        wrapper = getattr(each, "__func__", each)
        known = getattr(wrapper, _MARK, None)
        if isinstance(known, Endpoint) and wrapper in known.wrappers:
            if known.limiter is limiter:
                return True
        elif not isinstance(wrapper, functools.partial):
            return False
    return False


def endpoints_behind(function: Any) -> Iterator[Endpoint]:
    """The endpoints, of any limiter, that the function or what it wraps is a wrapper of."""
    for each in wrapped_chain(function):
        known = getattr(each, _MARK, None)
        if isinstance(known, Endpoint):
            yield known


def limiters_behind(function: Any) -> Iterator[LimiterCore]:
    """The limiters that were meant to decorate a function that is registered as an endpoint.

    Those whose wrapper it is, or wraps; and those whose wrapper has the function's name in its module, as after a
    decorator that stands above the one of the route.
    """
    yield from (endpoint.limiter for endpoint in endpoints_behind(function))
    named = getattr(function, "__globals__", {}).get(getattr(function, "__name__", None))
    yield from (endpoint.limiter for endpoint in endpoints_over(function) if named in endpoint.wrappers)


def endpoints_over(function: Any) -> Iterator[Endpoint]:
    """The endpoints whose wrappers were made for the function, or for one of those wrappers."""
    for endpoint in list(getattr(function, _LIMITED_BY, ())):
        if endpoint.function is function:
            yield endpoint
            for wrapper in endpoint.wrappers:
                yield from endpoints_over(wrapper)


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return call
