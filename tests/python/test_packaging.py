"""The promises of the build files: one version, one list of requirements, a small wheel, one direction of includes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_build_tools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import slidegate
from slidegate import _core

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
CHECKERS = {"basedpyright", "clang-format", "mypy", "ruff"}
CONDA_NAMES = {"redis": "redis-py"}
BUILD_TOOLS = {"pybind11", "scikit-build-core", "cmake", "ninja", "setuptools", "wheel"}
TOP_LEVEL = {
    *("cpp", "python", "tests", "benchmarks", "examples", "docs", ".ci"),
    *("pyproject.toml", "CMakeLists.txt", "environment.yml", "README.md", "LICENSE", "Makefile"),
}
# The engine's folders: a file may include what stands in its own one or in one before it.
LAYERS = ("values", "cells", "strategies", "segment", "limiter")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked_files() -> list[Path]:
    git = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True)
    if git.returncode != 0:
        pytest.skip(f"not a git checkout: {git.stderr.strip()}")
    files = [ROOT / name for name in git.stdout.split("\0") if name]
    assert ROOT / "pyproject.toml" in files
    return [file for file in files if file.exists()]


def conda_requirements() -> dict[str, Requirement]:
    """The flat `dependencies` list of environment.yml."""
    lines = (ROOT / "environment.yml").read_text().partition("dependencies:\n")[2].splitlines()
    listed = [Requirement(line.strip().removeprefix("- ")) for line in lines if line.strip().startswith("- ")]
    return {canonicalize_name(requirement.name): requirement for requirement in listed}


def required_by_pyproject() -> list[Requirement]:
    data = pyproject()
    extras = data["project"]["optional-dependencies"].values()
    groups = [data["build-system"]["requires"], data["project"]["dependencies"], *extras]
    return [Requirement(text) for group in groups for text in group]


def test_the_version_is_written_in_one_place() -> None:
    version = pyproject()["project"]["version"]
    assert metadata.version("slidegate") == version
    assert _core.__version__ == version
    assert slidegate.__version__ == version


@pytest.mark.parametrize("requirement", required_by_pyproject(), ids=str)
def test_conda_and_pip_ask_for_the_same(requirement: Requirement) -> None:
    conda = conda_requirements()
    name = CONDA_NAMES.get(requirement.name, canonicalize_name(requirement.name))
    assert name in conda, f"environment.yml does not list {name}"
    assert conda[name].specifier == requirement.specifier


def test_the_lowest_versions_that_are_asked_for_are_tested() -> None:
    project = pyproject()["project"]
    required = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["test"]]
    lowest = {
        canonicalize_name(requirement.name): [Version(each.version) for each in requirement.specifier]
        for requirement in required
        if requirement.name not in CHECKERS
    }
    lines = (ROOT / ".ci/oldest-requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    pins = {canonicalize_name(pin.name): [Version(each.version) for each in pin.specifier] for pin in pinned}
    assert {str(each.operator) for pin in pinned for each in pin.specifier} == {"=="}
    assert {name: pins.get(name) for name in lowest} == lowest


def test_conda_asks_for_the_python_that_the_package_supports() -> None:
    assert str(conda_requirements()["python"].specifier) == pyproject()["project"]["requires-python"]


def test_an_installation_brings_no_build_tools_along() -> None:
    required = [Requirement(text) for text in metadata.requires("slidegate") or []]
    at_run_time = {
        canonicalize_name(requirement.name)
        for requirement in required
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    assert at_run_time == {canonicalize_name(Requirement(text).name) for text in pyproject()["project"]["dependencies"]}
    assert not at_run_time & BUILD_TOOLS


@needs_build_tools
def test_the_wheel_holds_the_package_its_types_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("slidegate-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"slidegate/__init__.py", "slidegate/py.typed", "slidegate/_core.pyi"} <= names
    assert any(re.fullmatch(r"slidegate/_core\..*\.so", name) for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"slidegate"}
    assert not [name for name in names if name.endswith((".cpp", ".hpp", ".a"))]


def test_the_top_level_holds_only_what_the_layout_names() -> None:
    entries = {file.relative_to(ROOT).parts[0] for file in tracked_files()}
    assert {entry for entry in entries - TOP_LEVEL if not entry.startswith(".")} == set()


def test_the_native_module_has_the_classes_of_its_stub() -> None:
    stub = ast.parse((ROOT / "python/slidegate/_core.pyi").read_text())
    classes = {node.name for node in stub.body if isinstance(node, ast.ClassDef)}
    assert {"Limiter", "Policy", "Quota"} <= classes
    assert {name for name in classes if not isinstance(getattr(_core, name, None), type)} == set()


def includes(file: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', file.read_text(), re.MULTILINE)


def engine_files() -> list[Path]:
    return sorted(file for base in ("include/slidegate", "src") for file in (ROOT / "cpp" / base).rglob("*.[ch]pp"))


@pytest.mark.parametrize(
    "file", [file for file in engine_files() if file.parent.name in LAYERS], ids=lambda file: file.name
)
def test_includes_go_one_way(file: Path) -> None:
    allowed = {*LAYERS[: LAYERS.index(file.parent.name) + 1], "detail"}
    ours = [included for included in includes(file) if included.startswith("slidegate/")]
    assert [included for included in ours if included.split("/")[1] not in allowed] == []


def test_every_file_of_the_engine_stands_in_a_layer() -> None:
    assert {file.parent.name for file in engine_files()} == {*LAYERS, "detail", "redis"}


def test_details_include_nothing_but_details() -> None:
    details = sorted((ROOT / "cpp/include/slidegate/detail").glob("*.hpp"))
    assert details
    outside = [
        (file.name, header)
        for file in details
        for header in includes(file)
        if header.startswith("slidegate/") and not header.startswith("slidegate/detail/")
    ]
    assert outside == []


def test_only_the_bindings_know_python() -> None:
    who = {
        file.relative_to(ROOT).parent.as_posix()
        for file in tracked_files()
        if file.suffix in {".cpp", ".hpp"}
        and any(header == "Python.h" or header.startswith("pybind11") for header in includes(file))
    }
    assert who == {"cpp/bindings"}


MACHINE_SPECIFIC = {
    "a path of somebody's machine": re.compile(r"(?<![\w$}./:-])/(?:home|root|work|workspace|Users|opt|mnt|tmp)/\w"),
    "a package registry": re.compile(r"pypi\.org|pythonhosted\.org|deb\.debian\.org|anaconda\.org|index[-_]url"),
}


@pytest.mark.parametrize("what", MACHINE_SPECIFIC)
def test_no_file_names(what: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in tracked_files()
        if (match := MACHINE_SPECIFIC[what].search(file.read_text(errors="replace")))
    ]
    assert found == []
