"""Methods and properties of native classes that are called with None for the object that they are of."""

from __future__ import annotations

import subprocess
import sys

import pytest

from slidegate import _core

PROGRAM = """
import sys
from slidegate import _core

kind, *names = sys.argv[1:]
rule = (_core.Quota(5, 10**9), "scope")
for name in names:
    print(name, flush=True)
    member = vars(getattr(_core, kind))[name]
    call = member.fget if isinstance(member, property) else getattr(getattr(_core, kind), name)
    for arguments in (), ("key",), (1,), ([rule],), ("key", 1), (True, 0), (None,), (None, None), (b"",):
        try:
            call(None, *arguments)
        except Exception:
            pass
"""
MEMBERS = [
    (kind, name)
    for kind, each in vars(_core).items()
    if isinstance(each, type)
    for name, member in vars(each).items()
    if callable(member) or (isinstance(member, property) and member.fget is not None)
]


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in MEMBERS}))
def test_fault_23_none_is_no_object_of_a_native_class(kind: str) -> None:
    names = [name for each, name in MEMBERS if each == kind]
    ended = subprocess.run([sys.executable, "-c", PROGRAM, kind, *names], capture_output=True, text=True)
    assert ended.returncode == 0, f"{kind}.{ended.stdout.split()[-1]}: {ended.stderr[-2000:]}"
