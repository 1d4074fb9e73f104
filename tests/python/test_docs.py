"""What the documentation shows, run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("at", range(len(blocks("docs/testing.md"))))
def test_the_tests_of_the_guide_to_testing_pass(at: int, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(blocks("README.md")[0])
    (tmp_path / "test_app.py").write_text(blocks("docs/testing.md")[at])
    # Starlette's own client warns of the httpx that it uses.
    warnings = ["-W", "error", "-W", "ignore::DeprecationWarning", "-W", "ignore::UserWarning"]
    command = [sys.executable, "-m", "pytest", "-q", *warnings, "-p", "no:cacheprovider", "test_app.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert re.search(r"^\d+ passed", told.stdout, re.MULTILINE)
    assert "skipped" not in told.stdout
