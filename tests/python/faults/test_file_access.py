"""Who may have written to what several processes count in: this user alone, unless a mode or a group is named."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from limits import parse

from slidegate import ConfigurationError, Limiter
from slidegate._core import Segment
from slidegate.errors import StorageError
from slidegate.inspection import segment_named, segments

ITEM = parse("50/day")
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users and groups")


def make(uri: str, **options: Any) -> Limiter:
    return Limiter(lambda: "key", storage_uri=uri, storage_options=options)


def counted(limiter: Limiter) -> int:
    return 50 - int(limiter._limiter.get_window_stats(ITEM, "key", "scope").remaining)


@pytest.fixture(params=["shared", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A URI, and where its file is."""
    path = tmp_path / "limits"
    if request.param == "shared":
        name = f"pytest.access.{os.getpid()}"
        path = Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}"
        yield f"shared://{name}", path
    else:
        yield f"file://{path}", path
    path.unlink(missing_ok=True)


def test_fault_21_a_mode_that_is_named_is_accepted_and_given(place: tuple[str, Path]) -> None:
    uri, path = place
    assert make(f"{uri}?mode=0660")._limiter.hit(ITEM, "key", "scope")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    for accepted in (make(f"{uri}?mode=0660"), make(uri, mode="0660"), make(uri, mode=0o660), make(uri, mode="666")):
        assert counted(accepted) == 1


def test_fault_21_the_default_stays_strict_and_says_what_to_do(place: tuple[str, Path]) -> None:
    uri, path = place
    make(uri)
    path.chmod(0o660)
    with pytest.raises(StorageError, match=r"\(mode 0660\); it has to be 0600\. If they may .* say mode=0660$"):
        make(uri)
    assert counted(make(uri, mode="0660")) == 0
    path.chmod(0o666)
    with pytest.raises(StorageError, match=r"\(mode 0666\); it has to be 0660\. .* say mode=0666$"):
        make(f"{uri}?mode=0660")
    path.chmod(0o640)
    with pytest.raises(StorageError, match="say mode=0640"):
        make(uri)


def test_fault_21_a_stricter_file_is_as_good(place: tuple[str, Path]) -> None:
    uri, _ = place
    make(uri)
    assert counted(make(f"{uri}?mode=0660")) == 0


@pytest.mark.parametrize("mode", ["0060", "rw", "8888", "0o660", "", "07777", 0o40, True, 1.5, "1777"])
def test_fault_21_what_is_no_mode_is_an_error_at_once(mode: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no permissions that this user can read and write with, like 0660"):
        make(f"file://{tmp_path}/limits", mode=mode)
    with pytest.raises(ConfigurationError, match="memory:// has no option 'mode'"):
        make("memory://?mode=0660")
    with pytest.raises(ConfigurationError, match="another mode"):
        make(f"file://{tmp_path}/limits?mode=0660", mode="0600")


@pytest.mark.parametrize("group", ["no such group", "", "a\0b", True, "-1"])
def test_fault_21_what_is_no_group_is_an_error_at_once(group: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="this host has no such group"):
        make(f"file://{tmp_path}/limits", group=group)


@needs_root
def test_fault_21_users_of_a_group_that_is_named_count_together(place: tuple[str, Path]) -> None:
    uri, path = place
    make(uri, group=NOBODY)._limiter.hit(ITEM, "key", "scope")
    os.chown(path, NOBODY, -1)
    with pytest.raises(StorageError, match=f"belongs to user {NOBODY}"):
        make(uri)
    name = grp.getgrgid(NOBODY).gr_name
    for together in (make(f"{uri}?group={name}"), make(uri, group=NOBODY), make(uri, group=str(NOBODY))):
        assert counted(together) == 1
    with pytest.raises(StorageError, match=f"belongs to user {NOBODY}"):
        make(f"{uri}?group=0")


@needs_root
def test_fault_21_a_group_gets_what_is_made_for_it(place: tuple[str, Path]) -> None:
    uri, path = place
    make(f"{uri}?group={NOBODY}")
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, NOBODY)
    with pytest.raises(StorageError, match=f"belongs to group {NOBODY}, and is open to it, not to 0"):
        make(f"{uri}?group=0")


@needs_root
def test_fault_21_the_commands_find_what_a_group_uses(place: tuple[str, Path]) -> None:
    uri, path = place
    make(f"{uri}?mode=0660&size=1MiB")
    assert segment_named(uri).size == 1 << 20
    if uri.startswith("shared"):
        assert path.name.removeprefix(Segment.shared_prefix) in [each.name for each in segments()]


@pytest.mark.parametrize("target", ["nothing", "none/nothing"])
def test_fault_21_a_link_that_leads_nowhere_is_an_error_at_once(target: str, tmp_path: Path) -> None:
    link = tmp_path / "limits"
    link.symlink_to(tmp_path / target)
    with pytest.raises(StorageError, match="limits is a link to something that is not there; make that, or remove"):
        make(f"file://{link}")
    for on_damage in ("error", "recreate"):
        with pytest.raises(StorageError, match="is a link"):
            make(f"file://{link}?on_damage={on_damage}")
    assert list(tmp_path.iterdir()) == [link]


def test_fault_21_a_link_that_leads_somewhere_is_followed(tmp_path: Path) -> None:
    make(f"file://{tmp_path}/limits")._limiter.hit(ITEM, "key", "scope")
    (tmp_path / "link").symlink_to(tmp_path / "limits")
    assert counted(make(f"file://{tmp_path}/link")) == 1


def test_fault_21_links_in_shared_memory_are_errors(tmp_path: Path) -> None:
    name = f"pytest.link.{os.getpid()}"
    link = Path(Segment.shared_directory) / f"{Segment.shared_prefix}{name}"
    link.symlink_to(tmp_path / "nothing")
    try:
        with pytest.raises(StorageError, match="is no regular file"):
            make(f"shared://{name}")
    finally:
        link.unlink()


@pytest.mark.parametrize("kind", ["directory", "circle", "pipe", "trailing slash"])
def test_fault_21_what_is_no_file_is_an_error_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "limits"
    if kind == "directory":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(StorageError):
        make(f"file://{path}{'/' if kind == 'trailing slash' else ''}")
