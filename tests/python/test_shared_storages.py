"""shared:// and file://: one count for all processes that name the same segment."""

from __future__ import annotations

import multiprocessing
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from limits import parse

from slidegate import ConfigurationError, Limiter
from slidegate._core import Segment, shared_segments
from slidegate.errors import StorageError

ITEM = parse("50/day")
SHM = Path(Segment.shared_directory)


def make(uri: str | None, **options: Any) -> Limiter:
    return Limiter(lambda: "key", storage_uri=uri, **options)


def hit_often(uri: str) -> int:
    limiter = make(uri)
    return sum(limiter._limiter.hit(ITEM, "key", "scope") for _ in range(100))


@pytest.fixture
def name() -> Iterator[str]:
    name = f"pytest.{os.getpid()}"
    yield name
    (SHM / f"{Segment.shared_prefix}{name}").unlink(missing_ok=True)


@pytest.fixture(params=["shared", "file"])
def uri(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> str:
    return f"shared://{name}" if request.param == "shared" else f"file://{tmp_path}/limits"


def path_of(uri: str) -> Path:
    scheme, place = uri.split("://")
    return SHM / (Segment.shared_prefix + place) if scheme == "shared" else Path(place)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_that_name_one_storage_share_the_limit(method: str, uri: str) -> None:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context(method)) as pool:
        admitted = list(pool.map(hit_often, [uri] * 8))
    assert sum(admitted) == 50
    assert hit_often(uri) == 0


def test_a_limiter_that_was_used_before_a_fork_counts_with_its_children(uri: str) -> None:
    limiter = make(uri)
    assert limiter._limiter.hit(ITEM, "key", "scope", cost=20)
    child = multiprocessing.get_context("fork").Process(target=_hit_twenty, args=(limiter,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert limiter._limiter.get_window_stats(ITEM, "key", "scope").remaining == 10


def _hit_twenty(limiter: Limiter) -> None:
    assert limiter._limiter.hit(ITEM, "key", "scope", cost=20)
    assert not limiter._limiter.hit(ITEM, "key", "scope", cost=20)


def test_counts_in_memory_are_copied_by_a_fork_and_go_on_apart() -> None:
    limiter = make("memory://")
    assert limiter._limiter.hit(ITEM, "key", "scope", cost=20)
    child = multiprocessing.get_context("fork").Process(target=_hit_twenty, args=(limiter,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert limiter._limiter.get_window_stats(ITEM, "key", "scope").remaining == 30


def test_counts_outlive_the_processes_that_made_them(uri: str) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(hit_often, uri).result() == 50
    assert hit_often(uri) == 0


def test_resetting_forgets_the_hits_of_all(uri: str) -> None:
    assert hit_often(uri) == 50
    make(uri).reset()
    assert hit_often(uri) == 50


def test_other_names_count_apart(name: str, tmp_path: Path) -> None:
    assert hit_often(f"file://{tmp_path}/one") == 50
    assert hit_often(f"file://{tmp_path}/two") == 50
    assert hit_often(f"shared://{name}") == 50


def test_only_its_user_may_read_it(uri: str) -> None:
    make(uri)
    assert stat.S_IMODE(path_of(uri).stat().st_mode) == 0o600


def test_a_size_is_that_of_the_first_who_says_one(uri: str) -> None:
    segment = make(f"{uri}?size=2MiB")._storage.segment
    assert segment is not None
    assert segment.size == 2 << 20
    for other in (make(uri), make(uri, size=2 << 20), make(uri, storage_options={"size": "2MiB"})):
        assert other._storage.segment is not None
        assert other._storage.segment.size == 2 << 20
    with pytest.raises(StorageError, match="has a size of 2097152 bytes, not 4194304; ask for that size or for none"):
        make(f"{uri}?size=4MiB")
    with pytest.raises(ConfigurationError, match="another size"):
        make(f"{uri}?size=2MiB", size=4 << 20)


def test_a_list_names_it(name: str) -> None:
    limiter = make(f"shared://{name}?size=1MiB")
    (info,) = [each for each in shared_segments() if each.name == name]
    assert (info.size, info.damage, info.owner_pid, info.is_leftover) == (1 << 20, "", 0, False)
    assert limiter._storage.check()


@pytest.mark.parametrize(
    "content",
    [b"", b"something else", b"slidegat" + bytes(5000), os.urandom(1 << 16)],
    ids=["nothing", "something else", "only the beginning", "noise"],
)
def test_what_is_damaged_is_an_error_or_made_anew(content: bytes, uri: str) -> None:
    path_of(uri).write_bytes(content)
    path_of(uri).chmod(0o600)
    with pytest.raises(StorageError, match=re.escape(str(path_of(uri))) + " is damaged or no segment: .+; remove it"):
        make(uri)
    with pytest.raises(ConfigurationError, match="on_damage is 'error' or 'recreate', not 'mend'"):
        make(f"{uri}?on_damage=mend")
    limiter = make(uri, storage_options={"on_damage": "recreate"})
    assert limiter._limiter.hit(ITEM, "key", "scope")
    assert hit_often(f"{uri}?on_damage=recreate") == 49


def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/limits"
    assert hit_often(uri) == 50
    os.truncate(tmp_path / "limits", 100_000)
    with pytest.raises(StorageError, match="it has 100000 bytes of the"):
        make(uri)


def test_what_others_may_write_to_is_refused(uri: str) -> None:
    make(uri)
    path_of(uri).chmod(0o666)
    with pytest.raises(StorageError, match="is open to other users"):
        make(f"{uri}?on_damage=recreate")


def test_a_directory_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(f"{tmp_path}/none")):
        make(f"file://{tmp_path}/none/limits")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("shared://", "the name of a segment, as in 'shared://my-api"),
        ("shared:///", "1 to 200 letters, digits"),
        ("shared://a/b", "1 to 200 letters, digits"),
        ("shared://.a", "1 to 200 letters, digits"),
        ("shared://" + "a" * 201, "1 to 200 letters, digits"),
        ("file://limits", "the whole path of a file, as in 'file:///var"),
        ("file://", "the whole path of a file"),
        ("file:///", "the whole path of a file"),
        ("memory://name", "no name, as in 'memory://'"),
        ("shared://a?sise=1MiB", "shared:// has no option 'sise'; known: size, on_damage, mode, group"),
        ("memory://?on_damage=error", "memory:// has no option 'on_damage'; known: size"),
        ("shared://a?size=1MiB&size=2MiB", "size is there twice"),
        ("shared://a?size=much", "size='much' is neither a number of bytes"),
        ("shared://a?size=0", "no size"),
        ("shared://a?size=1KiB", "size"),
        ("shm://a", "there is no storage 'shm://'; supported: memory://, shared://, file://"),
    ],
)
def test_a_storage_that_cannot_be_is_an_error_that_says_what_can(uri: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make(uri)
    assert not [each for each in shared_segments() if each.name == "a"]


def test_the_environment_can_name_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATELIMIT_STORAGE_URL", f"shared://{name}?size=1MiB")
    segment = make(None)._storage.segment
    assert segment is not None
    assert segment.name == f"shared://{name}"


def test_the_engine_needs_no_constructor_to_be_safe() -> None:
    with pytest.raises(TypeError):
        Segment()
    with pytest.raises(TypeError):
        Segment.__new__(Segment)
