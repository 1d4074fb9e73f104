"""The list of differences is complete, and users have the same one."""

from __future__ import annotations

import ast
from pathlib import Path

from compat.differences import DIFFERENCES

HERE = Path(__file__).parent
MIGRATING = HERE.parents[2] / "docs/migrating.md"


def shown_by_cases() -> set[str]:
    """The names that are given to `differs` in this directory."""
    calls = [
        node
        for file in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "differs"
    ]
    return {
        each.value.value
        for call in calls
        for each in call.keywords
        if each.arg == "difference" and isinstance(each.value, ast.Constant)
    }


def test_every_difference_is_shown_by_a_case_and_every_shown_one_is_listed() -> None:
    assert shown_by_cases() == set(DIFFERENCES)


def test_the_guide_lists_every_difference_in_the_same_words() -> None:
    rows = [line.strip("|").split("|") for line in MIGRATING.read_text().splitlines() if line.startswith("| ")]
    told = {row[0].strip(): tuple(cell.strip() for cell in row[1:]) for row in rows[1:]}
    assert told == {name.replace("-", " "): tuple(each) for name, each in DIFFERENCES.items()}


def test_what_can_be_had_back_is_said() -> None:
    switches = " ".join(each.back for each in DIFFERENCES.values())
    assert all(word in switches for word in ("fixed-window", "on_missing_key", "retry_after_on_success", ".env"))
