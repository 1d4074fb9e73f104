"""What goes over the wire to a Redis server and back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slidegate._core import RedisProtocolError, RedisReader, RedisReplyError, hiredis_version, redis_command

replies = st.recursive(
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40)),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


def depth(reply: Any) -> int:
    return 1 + max(map(depth, reply), default=0) if isinstance(reply, list) else 0


def encoded(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))


def test_the_module_tells_what_it_was_built_with() -> None:
    assert hiredis_version.count(".") == 2


@given(st.lists(replies.filter(lambda reply: depth(reply) < 7), max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_replies_come_out_as_they_went_in_wherever_the_stream_is_cut(sent: list[Any], cuts: list[int]) -> None:
    stream = b"".join(map(encoded, sent))
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = RedisReader()
    received = [reply for start, end in pairwise(places) for reply in reader.feed(stream[start:end])]
    assert received == sent


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_a_command_is_an_array_of_its_arguments(arguments: list[bytes]) -> None:
    assert redis_command(*arguments) == encoded(arguments)


def test_an_error_is_a_value_among_the_replies() -> None:
    ok, error = RedisReader().feed(b"+OK\r\n-LOADING \xff\r\n")
    assert ok == b"OK"
    assert isinstance(error, RedisReplyError)
    assert str(error) == "LOADING \\xff"


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n", b"*100000\r\n", b"*2147483647\r\n", b":1" + b"0" * 40 + b"\r\n", b"\x15\x03\x01"],
)
def test_what_is_no_reply_is_an_error(garbage: bytes) -> None:
    with pytest.raises(RedisProtocolError):
        RedisReader().feed(garbage)


def test_a_reply_without_end_is_given_up() -> None:
    reader = RedisReader()
    assert reader.feed(b"$536870912\r\n") == []
    for _ in range(15):
        assert reader.feed(b"x" * 65536) == []
    with pytest.raises(RedisProtocolError, match="1048576 bytes"):
        reader.feed(b"x" * 65536)


def test_a_command_takes_bytes_and_a_name() -> None:
    with pytest.raises(TypeError):
        redis_command("PING")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="name"):
        redis_command()
