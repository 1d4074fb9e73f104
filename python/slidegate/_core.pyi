"""The native engine, and what has to be as quick. Times are integer nanoseconds; nothing here reads notation."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, final

__version__: str

_Strategy: TypeAlias = Literal["moving-window", "fixed-window", "sliding-window-counter", "gcra"]
_OnFull: TypeAlias = Literal["evict", "refuse", "admit"]
_OnDamage: TypeAlias = Literal["error", "recreate"]
_Key: TypeAlias = str | bytes
_RawDecision: TypeAlias = tuple[bool, int, int, int, int]
_Rule: TypeAlias = (
    tuple[Quota, str] | tuple[Quota, str, str] | tuple[Quota, str, str, bool] | tuple[Quota, str, str, bool, int]
)

def with_quota(
    headers: Iterable[tuple[bytes, bytes]],
    names: tuple[bytes, bytes, bytes],
    amount: int,
    raw_decision: _RawDecision,
    now_s: float,
    /,
) -> list[tuple[bytes, bytes]]: ...

class InvalidQuota(ValueError): ...
class SegmentError(OSError): ...
class SegmentMissing(SegmentError): ...

@final
class Segment:
    """Memory to count in that several processes share. What it is named by lasts until the host restarts, or as a file.

    A `size` of 0 is that of the segment that is there, or `default_size`. `owner_pid` is the process whose end makes it
    useless, 0 for none. `mode` are the permissions of a new one, and the most that one which is there may give; one of
    the `group` may be another user's. Errors are SegmentError, and ValueError for names and sizes that cannot be.
    """

    default_size: ClassVar[int]
    shared_directory: ClassVar[str]
    shared_prefix: ClassVar[str]
    @staticmethod
    def shared(
        name: str,
        *,
        size: int = 0,
        on_damage: _OnDamage = "error",
        may_create: bool = True,
        owner_pid: int = 0,
        mode: int = 0o600,
        group: int | None = None,
    ) -> Segment: ...
    @staticmethod
    def file(
        path: str,
        *,
        size: int = 0,
        on_damage: _OnDamage = "error",
        may_create: bool = True,
        owner_pid: int = 0,
        mode: int = 0o600,
        group: int | None = None,
    ) -> Segment: ...
    @staticmethod
    def inherited(size: int) -> Segment:
        """Without a name: shared with the processes that are forked from this one."""
    def admits(self, space: str, /) -> bool:
        """Whether there is room for limiters of this space, which is kept for them from now on."""
    def unlink(self) -> bool:
        """Takes its name away: nobody else can come. False when it had none any more."""
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def is_new(self) -> bool: ...

@final
class SegmentInfo:
    @property
    def name(self) -> str: ...
    @property
    def damage(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def born_ns(self) -> int: ...
    @property
    def owner_pid(self) -> int: ...
    @property
    def is_leftover(self) -> bool: ...

def shared_segments() -> list[SegmentInfo]:
    """This user's, by name."""

def remove_leftovers() -> list[str]:
    """Removes those that nobody has open and whose owner has ended; says which."""

def process_start(pid: int, /) -> int:
    """When it began, in clock ticks since boot. 0 for processes that there are not."""

def launch_secret() -> bytes:
    """Sixteen random bytes that this program was started with: the same in all that was forked from it since, and
    nothing that other users can know.
    """

@final
class Quota:
    def __init__(self, amount: int, window_ns: int, strategy: _Strategy = "moving-window") -> None: ...
    @property
    def amount(self) -> int: ...
    @property
    def window_ns(self) -> int: ...
    @property
    def strategy(self) -> _Strategy: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> Any: ...

class Clock:
    def now(self) -> int: ...

@final
class BootClock(Clock):
    def __init__(self) -> None: ...

@final
class ManualClock(Clock):
    """Stands where it is set, from 0 to 2**62 - 1 nanoseconds; ValueError for other times."""

    def __init__(self, now_ns: int = 0) -> None: ...
    def advance(self, ns: int) -> None: ...
    def set(self, now_ns: int) -> None: ...

@final
class PythonClock(Clock):
    """Runs, or goes on as whatever tests put in the place of `time.time`.

    Limiters that are given neither a clock nor a segment have one. In a segment they go by the time of the machine.
    """

    def __init__(self) -> None: ...
    def hold(self) -> None:
        """Stops the time, at a whole second, until it is released. Nothing else moves it meanwhile."""
    def advance(self, ns: int) -> None:
        """Lets time pass. ValueError when it is negative, RuntimeError when the clock is not held."""
    def release(self) -> None:
        """Goes on from here."""
    @property
    def is_held(self) -> bool: ...

@final
class Ticket: ...

@final
class Stats:
    @property
    def cells(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...
    @property
    def full(self) -> int: ...

@final
class Policy:
    def hit(self, keys: _Key | tuple[_Key, ...], cost: int | tuple[int, ...] = 1, /) -> _RawDecision: ...
    def peek(self, keys: _Key | tuple[_Key, ...], cost: int | tuple[int, ...] = 1, /) -> _RawDecision: ...
    def reserve(
        self, keys: _Key | tuple[_Key, ...], cost: int | tuple[int, ...] = 1, /
    ) -> tuple[_RawDecision, Ticket | None]: ...
    def refund(self, ticket: Ticket, /) -> bool: ...
    def tally(self, is_admitted: bool, refusing: int, /) -> None: ...
    def reset(self, keys: _Key | tuple[_Key, ...], /) -> None: ...

@final
class Limiter:
    default_size: ClassVar[int]
    def __init__(
        self,
        *,
        size: int = ...,
        on_full: _OnFull = "evict",
        clock: Clock | None = None,
        segment: Segment | None = None,
        record_keys: bool = False,
        full_error: type[Exception] = MemoryError,
        notify: Callable[[str], object] | None = None,
        notify_full: Callable[[str, tuple[Quota, bytes, bytes] | None, int, int], object] | None = None,
        space: str = "",
    ) -> None:
        """`full_error` is raised by a hit for whose key the system has no memory or disk; nothing was counted then.
        `notify` gets its text with the first of them, among all processes that count in the segment.

        `notify_full` is called, once an hour among all of them, when there is no free place for a new key: with the
        name of the segment, the limit (quota, scope, name) that holds most places of the size that is wanted, if it is
        known, how many, and of how many.

        Limiters of one segment with different spaces share the memory, and no count: `reset`, `rules` and `errors` are
        about their own. One without a space resets and tells of all. SegmentError when there is no room for another."""
    @property
    def clock(self) -> Clock: ...
    def policy(self, rules: Sequence[_Rule], /) -> Policy:
        """Quotas and scopes; what people call each; whether a request has made it, and not the program: there is room
        to tell of 128 of those; and the number of the space that it is in, as `rules` has it, 0 for the limiter's own.
        """
    def reader(self, rules: Sequence[_Rule], /) -> Policy:
        """A policy of which `rules` and what is counted for metrics know nothing: to peek, and to reset."""
    def reset(self) -> None: ...
    def stats(self) -> Stats: ...
    def shortage(self) -> int | None:
        """How long the system has had no memory for more keys, in ns; None while it has some."""
    def shortages(self) -> int:
        """How often it had none."""
    def rules(self) -> list[tuple[int, Quota, bytes, bool, int, int, bytes, int, int]]:
        """What counts in this memory: index, quota, scope, whether that is whole, admitted, refused, name, the
        number of the space (0 for none), and how many of the admitted and refused another storage has counted."""
    def holdings(self) -> dict[int, int]:
        """How many keys each rule holds memory for, by its index; those that have expired and were not reused too."""
    def count_error(self, kind: str, /) -> None:
        """Counts "raised", "passed" or "fallback" in this memory. Raises ValueError for any other."""
    def errors(self) -> dict[str, int]:
        """How many of each kind were counted in this memory."""
    def survey(self, most: int, /) -> list[tuple[int, str, int, int, int, tuple[int, bytes, bool] | None]]:
        """The fullest keys: identity, strategy, window in ns, limit (about), used. Of recorded ones also the index of
        the rule, the key, and whether that is whole."""
    def now(self) -> int: ...

hiredis_version: str
"""What the Redis client was built with; empty when there was no hiredis.

Then, and where that version of the library cannot be loaded, RedisReader and redis_command raise RuntimeError, which
says what is missing.
"""

redis_script: str
"""The script that counts inside a Redis server: cpp/redis/decide.lua."""

class RedisProtocolError(ConnectionError): ...

class RedisReplyError(Exception):
    """An error that the server has answered. A value among the replies; nothing here raises it."""

def redis_command(*args: bytes) -> bytes:
    """A command and its arguments as they go over the wire."""

@final
class RedisReader:
    """Parses a stream of replies, cut anywhere. Not thread-safe."""

    def __init__(self) -> None: ...
    def feed(self, data: bytes, /) -> list[Any]:
        """Every reply that is complete now: int, bytes, None, RedisReplyError, or a list of such.

        Raises RedisProtocolError when the stream is none of replies; the connection is to be closed then.
        """
