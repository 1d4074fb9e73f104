"""Imports of the package go down from layer to layer, in no circle, and its files are short enough to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import slidegate

ROOT = Path(slidegate.__file__).parent
LAYERS = (
    {"_support"},
    {"decision", "util"},
    {"_rules", "_routing", "testing"},
    {"_storage", "keys", "errors", "wrappers"},
    {"_http", "limits_storage", "inspection"},
    {"_limiter"},
    {"_fastapi"},
    {"_slowapi", "dependencies", "report", "openapi"},
    {"extension", "middleware", "_startup"},
    {"__init__", "metrics"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LONGEST_CHAIN = 18
LONGEST_FILE = 320
LONGER_FILES = {"_storage/redis/async_connection.py", "limits_storage.py"}
WITH_FASTAPI = {"_fastapi", "demo"}


@cache
def modules() -> dict[str, Path]:
    """Every module by its name below the package; that of a folder is what its `__init__` is."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imported(module: str) -> Iterator[str]:
    """What a module imports of the package, also for types only and inside of functions."""
    path = modules()[module]
    folder = [] if module == "__init__" else module.split(".")
    if path.name != "__init__.py":
        folder = folder[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        parent = folder[: len(folder) - node.level + 1]
        target = ".".join([*parent, *(node.module or "").split(".")] if node.module else parent)
        for name in node.names:
            below = f"{target}.{name.name}" if target else name.name
            found = below if below in modules() else target or "__init__"
            if room_of(found) != "_core":
                yield found


@cache
def graph() -> dict[str, set[str]]:
    return {module: set(imported(module)) - {module} for module in modules()}


@cache
def longest_chain(module: str) -> tuple[str, ...]:
    """The longest way from a module down through its imports."""
    return (module, *max(map(longest_chain, graph()[module]), key=len, default=()))


def test_every_file_is_in_a_room_of_a_layer() -> None:
    assert {room_of(module) for module in modules()} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_to_lower_layers_or_stay_in_their_room(module: str) -> None:
    room = room_of(module)
    upward = {each for each in graph()[module] if room_of(each) != room and LEVEL[room_of(each)] >= LEVEL[room]}
    assert not upward, f"{module} imports {sorted(upward)}"


def test_no_files_import_each_other_in_a_circle() -> None:
    assert list(TopologicalSorter(graph()).static_order())


def test_the_longest_chain_of_imports_is_short() -> None:
    longest = max(map(longest_chain, modules()), key=len)
    assert len(longest) <= LONGEST_CHAIN, " > ".join(longest)


@pytest.mark.parametrize("module", sorted(modules()))
def test_files_are_short_enough_to_be_read(module: str) -> None:
    path = modules()[module]
    if str(path.relative_to(ROOT)) not in LONGER_FILES:
        assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_what_is_for_fastapi_imports_it(module: str) -> None:
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        if any(name.partition(".")[0] == "fastapi" for name in names):
            assert room_of(module) in WITH_FASTAPI


@pytest.mark.parametrize("path", sorted(ROOT.glob("_*/**/__init__.py")), ids=lambda path: path.parent.name)
def test_the_folders_of_private_rooms_say_nothing_themselves(path: Path) -> None:
    assert not path.read_text()


def tree() -> str:
    """The rooms, those of the lowest layer first, and what is in them, in the first words of the files themselves."""
    told: list[list[str]] = [[] for _ in LAYERS]
    for module, path in modules().items():
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        if docstring is not None:
            told[LEVEL[room_of(module)]].append(f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}")
    return "\n\n".join("\n".join(lines) for lines in told if lines)


def test_the_guide_for_contributors_has_the_rooms_as_they_are() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "contributing.md").read_text()
    assert f"```text\n{tree()}\n```" in guide, "`python tests/python/test_layers.py` prints them"


if __name__ == "__main__":
    print(tree(), "", "The longest chain of imports:", *max(map(longest_chain, modules()), key=len), sep="\n")
