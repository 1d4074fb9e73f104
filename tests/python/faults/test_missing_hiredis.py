"""A module that was built with hiredis, on a machine that has no hiredis."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slidegate
from slidegate import _core

pytestmark = pytest.mark.skipif(not _core.hiredis_version, reason="this module was built without hiredis")

PRELUDE = """
import sys
sys.path[:] = {paths!r}
import slidegate
from slidegate import _core
assert slidegate.__file__.startswith({root!r}) and _core.__file__.startswith({root!r})
"""
COUNTING = """
limiter = _core.Limiter(size=1 << 20)
policy = limiter.policy([(_core.Quota(2, 60 * 10**9), "a")])
assert [policy.hit("ada")[0] for _ in range(3)] == [True, True, False]
slidegate.Limiter(key_func=lambda request: "ada", storage_uri="memory://")
"""


@pytest.fixture
def without_hiredis(tmp_path: Path) -> Path:
    """The package, with a native module that asks for a version of hiredis that nobody has."""
    package = Path(slidegate.__file__).parent
    shutil.copytree(package, tmp_path / "slidegate", ignore=shutil.ignore_patterns("__pycache__", "_core*.so"))
    module = Path(_core.__file__)
    there, names = re.subn(rb"(?<=libhiredis\.so\.)[0-9.]+", _nobodys, module.read_bytes())
    assert names
    (tmp_path / "slidegate" / module.name).write_bytes(there)
    (tmp_path / "libraries").mkdir()
    return tmp_path


def _nobodys(version: re.Match[bytes]) -> bytes:
    return re.sub(rb"[0-9]", b"9", version[0])


def run(root: Path, program: str) -> str:
    """What the program prints, in an interpreter that has the package at `root`."""
    prelude = PRELUDE.format(paths=[str(root), *(path for path in sys.path if path)], root=str(root))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(root / "libraries")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", prelude + program], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def libraries_loaded_by(program: str) -> str:
    program += "\nprint(open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fault_24_the_module_is_imported_and_counts_where_hiredis_is_absent(without_hiredis: Path) -> None:
    run(without_hiredis, COUNTING)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://localhost:6379",
        "rediss://localhost:6379",
        "redis+unix:///nowhere/redis.sock",
        "redis+cluster://localhost:7000",
        "redis+sentinel://localhost:26379/main",
    ],
)
def test_fault_24_a_server_as_storage_says_which_library_is_missing(uri: str, without_hiredis: Path) -> None:
    told = run(
        without_hiredis,
        f"""
from slidegate.errors import ConfigurationError
try:
    slidegate.Limiter(key_func=lambda request: "ada", storage_uri={uri!r})
except ConfigurationError as error:
    print(error)
""",
    )
    assert re.search(r"needs libhiredis\.so\.[9.]+, .* cannot be loaded: .*No such file", told)
    assert "Install hiredis (Debian: libhiredis-dev, conda: hiredis)" in told


def test_fault_24_a_library_that_is_broken_is_as_good_as_none(without_hiredis: Path) -> None:
    told = run(
        without_hiredis,
        COUNTING
        + f"""
import pathlib, re
name = re.search(rb"libhiredis.so.[0-9.]+", pathlib.Path(_core.__file__).read_bytes())[0].decode()
(pathlib.Path({str(without_hiredis)!r}) / "libraries" / name).write_bytes(b"no library")
for use in (_core.RedisReader, lambda: _core.redis_command(b"PING")):
    try:
        use()
    except RuntimeError as error:
        print(error)
""",
    )
    assert told.count("file too short") + told.count("invalid ELF header") == 2


def test_fault_24_a_library_that_lacks_a_function_is_named(without_hiredis: Path) -> None:
    told = run(
        without_hiredis,
        f"""
import pathlib, re
name = re.search(rb"libhiredis.so.[0-9.]+", pathlib.Path(_core.__file__).read_bytes())[0].decode()
(pathlib.Path({str(without_hiredis)!r}) / "libraries" / name).symlink_to(_core.__file__)
try:
    _core.RedisReader()
except RuntimeError as error:
    print(error)
""",
    )
    assert "undefined symbol: redisReaderCreateWithFunctions" in told


def test_fault_24_hiredis_is_found_once_it_has_been_installed(without_hiredis: Path) -> None:
    _core.RedisReader()
    (real,) = set(re.findall(r"\S*libhiredis\S*", Path("/proc/self/maps").read_text()))
    told = run(
        without_hiredis,
        f"""
import pathlib, re
name = re.search(rb"libhiredis.so.[0-9.]+", pathlib.Path(_core.__file__).read_bytes())[0].decode()
try:
    _core.RedisReader()
except RuntimeError:
    (pathlib.Path({str(without_hiredis)!r}) / "libraries" / name).symlink_to({real!r})
print(_core.RedisReader().feed(b"+OK\\r\\n"), _core.redis_command(b"PING"))
""",
    )
    assert told.strip() == r"[b'OK'] b'*1\r\n$4\r\nPING\r\n'"


def test_fault_24_to_import_the_module_loads_no_library_of_servers() -> None:
    loaded = libraries_loaded_by(
        f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("slidegate._core", {_core.__file__!r})
spec.loader.exec_module(module_from_spec(spec))
"""
    )
    assert Path(_core.__file__).name in loaded
    assert [name for name in ("hiredis", "libssl", "libcrypto") if name in loaded] == []
