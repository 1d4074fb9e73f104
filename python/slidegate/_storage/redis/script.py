"""What the script inside a Redis server is asked, and what it answers. Knows no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha1
from struct import pack
from typing import Any, NamedTuple

from ..._core import Quota, redis_script
from ...decision import RawDecision

KEY_VERSION = b"slidegate:1:"
"""What every key in the server begins with. Another layout of keys or states gets another number."""

_LETTERS = {"moving-window": b"m", "fixed-window": b"f", "sliding-window-counter": b"s", "gcra": b"g"}
_TICK_LENGTHS_US = [digit * 10**power for power in range(6) for digit in (1, 2, 5)] + [10**6]
_MOST_TICKS = 1 << 16
_GCRA_UNIT_NS = 64
_LONGEST_RAW = 64


class Script(NamedTuple):
    """A Lua script and the name under which a server that has it runs it."""

    text: bytes
    sha: bytes

    @classmethod
    def of(cls, text: str) -> Script:
        encoded = text.encode()
        return cls(encoded, sha1(encoded, usedforsecurity=False).hexdigest().encode())


SCRIPT = Script.of(redis_script)


@dataclass(frozen=True, slots=True)
class RedisRule:
    """A quota in a scope: the end of its keys, its argument without a cost and with a cost of 1, its unit of time."""

    amount: int
    suffix: bytes
    argument: bytes
    of_one: bytes
    unit_ns: int

    @classmethod
    def of(cls, quota: Quota, scope: str) -> RedisRule:
        letter, window_ns = _LETTERS[quota.strategy], quota.window_ns
        # The server tells the time in microseconds: no tick is shorter.
        tick_us = next((each for each in _TICK_LENGTHS_US if window_ns <= each * 1000 * _MOST_TICKS), 10**6)
        ticks = -(-window_ns // (tick_us * 1000))
        window_us = ticks * tick_us
        unit_ns = 1000
        parameters = (ticks, tick_us)
        if letter == b"s":
            parameters = (window_us, 0)
        elif letter == b"g":
            parameters = (-(-window_us * 1000 // (_GCRA_UNIT_NS * quota.amount)), 0)
            unit_ns = _GCRA_UNIT_NS
        name = scope.encode("utf-8", "surrogatepass")
        name = b"=" + name if len(name) <= _LONGEST_RAW else b"#" + _digest(name)
        suffix = b"}%b%d/%d:%b" % (letter, quota.amount, window_ns, name)
        argument = letter + pack("<3d", quota.amount, *parameters)
        return cls(quota.amount, suffix, argument, argument + pack("<d", 1), unit_ns)

    def charging(self, cost: int) -> bytes:
        """Its argument with a cost."""
        if cost == 1:
            return self.of_one
        # More than the amount is refused whatever it is, and the script counts in doubles.
        return self.argument + pack("<d", min(cost, self.amount + 1))


def lead_of(key: str | bytes, *, is_hashed: bool) -> bytes:
    """What the server's keys for a key begin with; a rule's suffix ends them. Those of one key lie in one slot."""
    if isinstance(key, str):
        key = key.encode("utf-8", "surrogatepass")
    elif not isinstance(key, bytes):
        raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")
    if is_hashed or len(key) > _LONGEST_RAW:
        return b"%bh:{:%b" % (KEY_VERSION, _digest(key))
    return b"%b%d:{:%b" % (KEY_VERSION, len(key), key)


def key_in(stored: bytes) -> str:
    """The key that a key of the server begins with; empty when that is a digest, or none of ours."""
    length, _, rest = stored.removeprefix(KEY_VERSION).partition(b":{:")
    size = int(length) if length.isdigit() else 0
    return rest[:size].decode("utf-8", "surrogateescape") if rest[size : size + 1] == b"}" else ""


class Receipt(NamedTuple):
    """What gives a hit back: the key and argument that it was asked with, and where the server has put the cost."""

    key: bytes
    argument: bytes
    numbers: tuple[int, int, int]


class Question(NamedTuple):
    """Arguments of EVALSHA after the name of the script: how many keys, the keys, the rest."""

    keys: tuple[bytes, ...]
    arguments: tuple[bytes, ...]

    @property
    def tail(self) -> tuple[bytes, ...]:
        return (b"%d" % len(self.keys), *self.keys, *self.arguments)


def ask(operation: bytes, rules: Sequence[RedisRule], keys: Sequence[bytes], costs: Sequence[int]) -> Question:
    """A hit, a reservation or a peek ("hit", "reserve", "peek") of one key and one cost for each rule."""
    return Question(tuple(keys), (operation, *map(RedisRule.charging, rules, costs)))


def ask_reset(keys: Iterable[bytes]) -> Question:
    """To forget the hits of these keys."""
    return Question(tuple(keys), (b"reset",))


def ask_refund(receipts: Sequence[Receipt]) -> Question:
    """To give back what was reserved."""
    arguments = (receipt.argument + pack("<3d", *receipt.numbers) for receipt in receipts)
    return Question(tuple(receipt.key for receipt in receipts), (b"refund", *arguments))


def raw_decision_of(reply: Any, rules: Sequence[RedisRule]) -> RawDecision:
    """The answer to a hit, a reservation or a peek. Raises ValueError when it is none."""
    try:
        allowed, index, remaining, reset, retry = reply[:5]
        unit_ns = rules[index].unit_ns
        return allowed == 1, index, remaining, reset * unit_ns, retry * unit_ns if retry > 0 else retry
    except (TypeError, ValueError, IndexError):
        raise ValueError(f"an answer to a hit was expected, not {type(reply).__name__}") from None


def reservation_of(
    question: Question, rules: Sequence[RedisRule]
) -> Callable[[Any], tuple[RawDecision, tuple[Receipt, ...]]]:
    """Reads the answer to a reservation: a decision, and what gives it back if it was admitted. That raises ValueError
    when it is none.
    """

    def read(reply: Any) -> tuple[RawDecision, tuple[Receipt, ...]]:
        raw_decision = raw_decision_of(reply, rules)
        if not raw_decision[0]:
            return raw_decision, ()
        if len(reply) != 5 + 3 * len(rules):
            raise ValueError("an answer to a reservation was expected")
        return raw_decision, tuple(
            Receipt(key, argument, (reply[3 * i + 5], reply[3 * i + 6], reply[3 * i + 7]))
            for i, (key, argument) in enumerate(zip(question.keys, question.arguments[1:], strict=True))
        )

    return read


def is_one(answer: Any) -> bool:
    """The answer to a refund or a reset. Raises ValueError when it is none."""
    if answer not in (0, 1):
        raise ValueError(f"0 or 1 was expected, not {type(answer).__name__}")
    return bool(answer == 1)


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).hexdigest().encode()
