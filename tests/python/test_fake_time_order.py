"""What is faked is noticed whatever was imported, made or faked first. Each order in a new interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = {
    "freezegun": ("from freezegun import freeze_time", "fake = freeze_time('2020-01-01'); moved = fake.start()"),
    "time-machine": (
        "import time_machine",
        "fake = time_machine.travel('2020-01-01T00:00:00+00:00', tick=False); moved = fake.start()",
    ),
    "hiro": ("import hiro", "fake = hiro.Timeline().freeze(1577836800); moved = fake.__enter__()"),
}
ADVANCE = {"freezegun": "moved.tick({s})", "time-machine": "moved.shift({s})", "hiro": "moved.forward({s})"}
END = {"freezegun": "fake.stop()", "time-machine": "fake.stop()", "hiro": "fake.__exit__(None, None, None)"}
MAKE = """
from slidegate import _core
limiter = _core.Limiter(size=1 << 20)
policy = limiter.policy([(_core.Quota(10, 60_000_000_000), "")])
def admitted():
    return sum(policy.hit("ada")[0] for _ in range(13))
"""
USE = """
assert admitted() == 10
{advance_59}
assert admitted() == 0
{advance_1}
assert admitted() == 10
"""
LEAVE = """
assert admitted() == 10, "years after 2020"
assert admitted() == 0
boot = _core.BootClock()
start, boot_start = limiter.now(), boot.now()
while boot.now() < boot_start + 1_000_000:
    pass
assert limiter.now() >= start + 1_000_000, "time stands still"
"""
ORDERS = {
    "the tool is imported last": ("make", "import", "begin", "use", "end", "leave"),
    "the tool is imported first": ("import", "make", "begin", "use", "end", "leave"),
    "the limiter is made while time is faked": ("import", "begin", "make", "use", "end", "leave"),
    "everything twice": ("import", "begin", "make", "use", "end", "leave", "begin", "advance", "use", "end", "leave"),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tool", BEGIN)
def test_a43_fakes_are_noticed_when(order: str, tool: str) -> None:
    import_, begin = BEGIN[tool]
    parts = {
        "import": import_,
        "make": MAKE,
        "begin": begin,
        "use": USE.format(advance_59=ADVANCE[tool].format(s=59), advance_1=ADVANCE[tool].format(s=1)),
        "advance": "admitted(); " + ADVANCE[tool].format(s=60),
        "end": END[tool],
        "leave": LEAVE,
    }
    program = "\n".join(parts[part] for part in ORDERS[order])
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_package_does_not_need_the_tools_nor_pytest() -> None:
    hide = "import sys; sys.modules.update(dict.fromkeys(('pytest', 'freezegun', 'time_machine', 'hiro')))"
    program = f"{hide}; import slidegate.testing; slidegate.testing.frozen().__enter__()"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
