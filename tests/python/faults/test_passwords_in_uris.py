"""However a URI is mistyped, no error repeats a password of it."""

from __future__ import annotations

import traceback

import pytest

import slidegate.limits_storage
from slidegate import ConfigurationError, Limiter
from slidegate._storage.redis.uri import parse_redis_uri
from slidegate._storage.uri_secrets import hiding_secrets, shown_uri
from slidegate.errors import StorageError
from slidegate.util import get_remote_address

SECRET = "hunter2secret"
MISTYPED = [
    f"redis:/user:{SECRET}@host",
    f"redis:/:{SECRET}@host:6379",
    f"redis:user:{SECRET}@host",
    f"redis//user:{SECRET}@host",
    f"redis:///user:{SECRET}@host",
    f"user:{SECRET}@host:6379",
    f":{SECRET}@host",
    f"{SECRET}@host:6379",
    f"redis:/:{SECRET}",
    f"redis://:{SECRET}",
    f"redis://user:{SECRET}",
    f"redis://user:{SECRET}/0",
    f"redis://host/user:{SECRET}@0",
    f"redis://host:6379/{SECRET}@0",
    f"redis://user:12/{SECRET}@host:6379/0",
    f"redis://user:ab#{SECRET}@host:6379/0",
    f"redis://user:12?{SECRET}@host:6379/0",
    f"redis://user:12?{SECRET}=1@host:6379/0",
    f"redis://user:12?db={SECRET}@host:6379/0",
    f"redis://user:12?socket_timeout={SECRET}@host:6379/0",
    f"redis://host?passwort={SECRET}",
    f"redis://host?pass={SECRET}&passwrod={SECRET}",
    f"redis://{SECRET}@host:port",
    f"redis://user:{SECRET}@host:99999",
    f"redis://user:{SECRET}@[::1",
    f"redis://user:{SECRET}\u2100@host",
    f"redis ://user:{SECRET}@host",
    f"user:{SECRET}@redis://host",
    f"rediss+unix://user:{SECRET}@/run/x.sock",
    f"redis+unix://user:{SECRET}@host/run/x.sock",
    f"redis+sentinel://user:{SECRET}@host",
    f"redis+sentinel://user:12/{SECRET}@host/mymaster/0",
    f"redis+cluster://user:{SECRET}/host:7000",
    f"redis+cluster://host:7000,user:{SECRET}",
    f"reddis://user:{SECRET}@host",
    f"valkey:/user:{SECRET}@host",
    f"async+redis:/user:{SECRET}@host",
    f"https://user:{SECRET}@host/",
    f"memory://user:{SECRET}@host",
    f"memory://?password={SECRET}",
    f"memory://?{SECRET}",
    f"shared://user:{SECRET}@host/x",
    f"shared://user:{SECRET}@host?size=0",
    f"shared://name?password={SECRET}",
    f"shared://user:{SECRET}?nonsense=1",
    f"file://user:{SECRET}@host/path",
    f"file://user:{SECRET}/path",
    f"file:///nowhere/at/all?token={SECRET}",
    f"file://user:{SECRET}\u2100@host/path",
    f"memcached://user:{SECRET}@host:port",
    f"mongodb://user:{SECRET}@host:port",
    f"mongodb://user:{SECRET}@@host",
]


def told_of(error: BaseException) -> str:
    """All that a log or a terminal would show of an error."""
    return "".join(traceback.format_exception(error))


# What pymongo has not made it cannot close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("uri", MISTYPED, ids=[uri.replace(SECRET, "...") for uri in MISTYPED])
def test_fault_15_no_error_repeats_the_password_of_a_mistyped_uri(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises((ConfigurationError, StorageError)) as caught:
        Limiter(key_func=get_remote_address, storage_uri=uri).check_sync(None, "1/minute", key="a", scope="b")
    # The lines of this test are shown with the trace, and hold none.
    assert SECRET not in told_of(caught.value)
    assert SECRET not in repr(caught.value)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("uri", [f"slidegate://user:{SECRET}@host", f"slidegate://?clock={SECRET}&password={SECRET}"])
def test_fault_15_nor_does_the_storage_for_limits(uri: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        slidegate.limits_storage.SlidegateStorage(uri)
    assert SECRET not in told_of(caught.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mysql://", "there is no storage 'mysql://'"),
        ("redis://localhost/x", "is a whole number, not 'x'"),
        ("redis://localhost?tiemout=5", "has no option 'tiemout'"),
        ("memory://name", "storage_uri='memory://name': after memory:// stands no name"),
        ("shared://", "storage_uri='shared://': after shared:// stands the name of a segment"),
        ("shared://x?siez=1MiB", "has no option 'siez'"),
        ("redis://localhost:0x", "host or port cannot be read; write redis://"),
    ],
)
def test_fault_15_what_holds_no_password_is_told_as_it_was_written(uri: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Limiter(key_func=get_remote_address, storage_uri=uri)
    assert told in str(caught.value)


WITH_USERS = [uri for uri in MISTYPED if f"{SECRET}@" in uri]


@pytest.mark.parametrize("uri", WITH_USERS, ids=[uri.replace(SECRET, "...") for uri in WITH_USERS])
def test_fault_15_what_a_library_quotes_of_a_uri_is_not_told(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read, and is not repeated") as caught:
        quoted(uri)
    assert SECRET not in told_of(caught.value)


def quoted(uri: str) -> None:
    with hiding_secrets(uri):
        try:
            raise KeyError(uri)
        except KeyError as error:
            raise ValueError("unreadable") from error


def test_fault_15_a_password_may_be_any_word_of_a_message() -> None:
    with pytest.raises(ConfigurationError, match=r"host or port cannot be read"):
        parse_redis_uri("redis://user:password@host:port")
    assert shown_uri("shared://chat") == "'shared://chat'"
    assert shown_uri("shared://a:b@c") == "'shared://...'"
