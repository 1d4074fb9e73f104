"""One of the two packages, as the programs of the cases see it, and what a case expects of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from compat.differences import DIFFERENCES

MODULES = ("extension", "errors", "util", "middleware", "wrappers")
MIDDLEWARES = ("SlowAPIMiddleware", "SlowAPIASGIMiddleware")


@dataclass(frozen=True)
class Expectation:
    """What a program does with each of the packages."""

    slowapi: Any
    slidegate: Any


def same(outcome: Any) -> Expectation:
    """Both packages do this."""
    return Expectation(outcome, outcome)


def differs(*, slowapi: Any, slidegate: Any, difference: str) -> Expectation:
    """The packages do different things, for the reason that is registered under this name."""
    assert difference in DIFFERENCES, f"{difference!r} is no registered difference"
    assert slowapi != slidegate, f"{difference!r} makes no difference here"
    return Expectation(slowapi, slidegate)


class Library:
    """Has every name of the package and its modules as an attribute: `library.Limiter`, `library.SlowAPIMiddleware`."""

    def __init__(self, name: str, own_options: dict[str, Any]) -> None:
        self.name = name
        self._own_options = own_options

    def __getattr__(self, name: str) -> Any:
        for module in MODULES:
            found = getattr(self.module(module), name, None)
            if found is not None:
                return found
        raise AttributeError(f"{self.name} has no {name}")

    def module(self, name: str = "") -> Any:
        """The package, or the module of it that has this name."""
        return importlib.import_module(f"{self.name}.{name}".rstrip("."))

    def limiter(self, **options: Any) -> Any:
        """A limiter by address, on the clock of the test where that has one."""
        return self.Limiter(**{"key_func": self.get_remote_address, **self._own_options, **options})

    def app(self, limiter: Any, middleware: str | None = None) -> FastAPI:
        """An application that is put together as slowapi's documentation says."""
        app = FastAPI()
        app.state.limiter = limiter
        app.add_exception_handler(self.RateLimitExceeded, self._rate_limit_exceeded_handler)
        if middleware is not None:
            app.add_middleware(getattr(self, middleware))
        return app

    def expected(self, expectation: Expectation) -> Any:
        """What this package is to do."""
        return getattr(expectation, self.name)


def attempt(step: Callable[[], Any]) -> Any:
    """What a call returns, or else the name of the type of what it raises."""
    try:
        return step()
    except Exception as error:
        return type(error).__name__
