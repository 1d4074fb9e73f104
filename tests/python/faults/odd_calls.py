"""Calls everything native with odd arguments, from a seed. Run by itself, as what it looks for ends the process."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

from slidegate import _core

SECOND = 10**9
STRATEGIES = ["moving-window", "fixed-window", "sliding-window-counter", "gcra"]


class Unraisable(BaseException):
    """What `except Exception` does not catch."""


class World:
    """What calls are made on and with, and what odd arguments do to it while they are looked at."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.depth = 0
        self.renew()

    def renew(self) -> None:
        self.clocks: list[Any] = [_core.BootClock(), _core.ManualClock(5), _core.PythonClock()]
        self.quotas = [_core.Quota(3, 60 * SECOND, strategy) for strategy in STRATEGIES]
        self.limiters = [
            _core.Limiter(size=1 << 20, clock=self.dice.choice([None, *self.clocks]), record_keys=True)
            for _ in range(2)
        ]
        self.policies = [
            limiter.policy([(quota, "a") for quota in self.dice.sample(self.quotas, self.dice.choice([1, 1, 3]))])
            for limiter in self.limiters
        ]
        self.tickets = [policy.reserve("ada")[1] for policy in self.policies]
        self.readers = [_core.RedisReader()]
        self.segments = [_core.Segment.inherited(1 << 20)]

    def odd(self, *_: Any) -> Any:
        """Does something to what may be in use, and returns something, or raises."""
        if self.depth < 3:
            self.depth += 1
            with suppress(Exception):
                self.dice.choice(
                    [
                        self.renew,
                        lambda: self.dice.choice(self.limiters).reset(),
                        lambda: self.dice.choice(self.policies).hit("bob"),
                        lambda: self.policies[0].refund(self.dice.choice(self.tickets)),
                        lambda: self.readers[0].feed(b"*1\r\n"),
                        lambda: call_anything(self),
                    ]
                )()
            self.depth -= 1
        if self.dice.random() < 0.3:
            raise self.dice.choice([ValueError, RecursionError, Unraisable])
        return self.value()

    def value(self) -> Any:
        dice = self.dice
        made = [
            *(None, True, 0, 1, -1, 3, 255, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**5000),
            *(0.0, -0.5, float("nan"), float("inf"), 1e300, 1j),
            *("", "a", "ada", "\ud800", "\0", "é" * 3000, "moving-window", "evict", "raised", "GET", "/", "http"),
            *(b"", b"ada", b"\xff\0", b"*3\r\n:1\r\n$-1\r\n-ERR \xff\r\n", bytearray(b"x"), memoryview(b"x")),
            *((), (1,), ("ada",), ("ada",) * 17, (b"a", b"b", b"c"), (True, 0, 1, 5, 0), (1,) * 100_000),
            *([], [1], [("ada", 1)], {}, {"a": 1}, set(), frozenset(), range(10_000), object(), Ellipsis),
            *(int, str, tuple, time.struct_time, MemoryError, _core.Quota, _core.Limiter, type),
            *(OddInt(7), OddInt(-7), OddStr("ada"), OddBytes(b"ada"), OddTuple(("ada",)), OddList([1])),
            *(Odd(self), iter(()), iter([1]), (n for n in ()), self.odd),
            *(*self.clocks, *self.quotas, *self.limiters, *self.policies, *self.tickets, *self.readers),
            *(*self.segments, self.limiters[0].stats()),
            [(dice.choice(self.quotas), "a")],
            [(dice.choice(self.quotas), "a", "name")] * dice.choice([1, 16, 17]),
        ]
        value = dice.choice(made)
        return (value,) * dice.choice([1, 2, 5]) if dice.random() < 0.1 else value


class Odd:
    """Answers to everything, and does something to the world meanwhile."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _odd(self, *_: Any) -> Any:
        return self._world.odd()

    __index__ = __int__ = __float__ = __str__ = __repr__ = __len__ = __iter__ = __getitem__ = __bool__ = __call__ = _odd
    __getattr__ = __fspath__ = __bytes__ = __contains__ = __next__ = __length_hint__ = _odd

    def __hash__(self) -> int:
        return hash(self._world.dice.choice(["ada", "a", b"a"]))

    def __eq__(self, other: object) -> bool:
        return bool(self._world.odd() is None)


WORLDS: list[World] = []


def disturbed(*_: Any) -> NoReturn:
    WORLDS[0].odd()
    raise ValueError("odd")


class OddInt(int):
    __str__ = __repr__ = __index__ = __hash__ = disturbed  # type: ignore[assignment]


class OddStr(str):
    __slots__ = ()
    __str__ = __hash__ = __eq__ = encode = disturbed  # type: ignore[assignment]


class OddBytes(bytes):
    __slots__ = ()
    __bytes__ = __len__ = __hash__ = disturbed  # type: ignore[assignment]


class OddTuple(tuple[Any, ...]):
    __slots__ = ()
    __len__ = __iter__ = __getitem__ = disturbed  # type: ignore[assignment]


class OddList(list[Any]):
    __len__ = __iter__ = __getitem__ = disturbed  # type: ignore[assignment]


def functions_of_the_module() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(_core):
        found = getattr(_core, name)
        if name == "remove_leftovers":
            # Not of the programs that run beside this.
            yield name, lambda *arguments, **keywords: _core.remove_leftovers(1, *arguments, **keywords)
        elif callable(found) and not (isinstance(found, type) and issubclass(found, Exception)):
            yield name, found


FUNCTIONS = list(functions_of_the_module())
CLASSES = [
    found
    for name in dir(_core)
    if isinstance(found := getattr(_core, name), type) and not issubclass(found, BaseException)
]
KEYWORDS = ["size", "on_full", "clock", "segment", "record_keys", "amount", "window_ns", "strategy", "now_ns", "ns"]
KEYWORDS += ["keys", "cost", "data", "full_error", "notify", "path", "name", "may_create", "owner_pid", "x"]


def something_callable(world: World) -> tuple[str, Callable[..., Any]]:
    dice = world.dice
    if dice.random() < 0.2:
        return dice.choice(FUNCTIONS)
    holder = dice.choice(
        [
            *(*world.clocks, *world.quotas[:1], *world.limiters, *world.policies, *world.policies, *world.tickets),
            *(*world.readers, *world.segments, world.limiters[0].stats(), *CLASSES),
        ]
    )
    # object.__reduce__ makes an object of pybind11's base class, which ends the process and is none of ours.
    left_out = {"__reduce__", "__reduce_ex__"} if isinstance(holder, type) else set()
    name = dice.choice(sorted(set(dir(holder)) - left_out))
    if isinstance(holder, type) and name in ("shared", "file"):
        # A segment is made in this directory only, and under no name that is anybody else's.
        return "file", lambda *arguments, **keywords: _core.Segment.file("odd", *arguments, **keywords)
    return f"{type(holder).__name__}.{name}", getattr(holder, name)


def call_anything(world: World) -> None:
    name, function = something_callable(world)
    if not callable(function):
        return
    dice = world.dice
    arguments = [world.value() for _ in range(dice.choice([0, 1, 1, 1, 2, 2, 3, 4, 6, 11]))]
    if dice.random() < 0.3:
        arguments[:1] = [dice.choice(["ada", world.tickets[0]])]
    keywords = {dice.choice(KEYWORDS): world.value()} if dice.random() < 0.1 else {}
    note(name, arguments, keywords)
    try:
        function(*arguments, **keywords)
    except SystemError as error:
        # "returned a result with an exception set", or none of both.
        if "exception" in str(error) and "BaseException" not in str(error):
            raise AssertionError(f"{name}: {error}") from error
    except AssertionError:
        raise
    except (Exception, Unraisable):
        pass


def note(name: str, arguments: list[Any], keywords: dict[str, Any]) -> None:
    """Leaves in a file what is called now, for whoever looks at what ended the process."""
    text = f"{name}({', '.join(type(each).__name__ for each in arguments)}, {', '.join(keywords)})"
    os.pwrite(NOTES, text.ljust(300)[:300].encode("utf-8", "replace"), 0)


def main(seed: int, calls: int) -> None:
    real, dice = time.time, random.Random(seed)
    world = World(dice)
    WORLDS.append(world)
    for number in range(calls):
        if number % 50 == 0:
            time.time = real
            world.renew()
        if dice.random() < 0.05:
            time.time = dice.choice([real, world.odd, lambda: 1e9, lambda: float("nan")])  # type: ignore[assignment]
        with suppress(Unraisable):
            call_anything(world)
    time.time = real
    print("survived")


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.dump_traceback_later(100, exit=True)
    NOTES = os.open("last-call", os.O_CREAT | os.O_RDWR)
    main(int(sys.argv[1]), int(sys.argv[2]))
