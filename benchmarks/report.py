"""Figures as a table for people and as JSON for programs, with the machine that they were taken on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path

from figures import Figure

_PACKAGES = ("slidegate", "fastapi", "starlette", "slowapi", "limits")
_HEADINGS = ("median", "least", "", "against", "target", "met")


def machine() -> dict[str, str]:
    """What ran here, in words."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return {
        "machine": f"{cores} cores, {_cpu_model()}, {platform.system()} {platform.release()}",
        "load before": f"{load:.2f} (of other programs; above 0 it disturbs, above {cores - 1} it distorts)",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


def table(about: dict[str, str], figures: Sequence[Figure]) -> str:
    width = max(len(figure.name) for figure in figures)
    lines = [f"{name + ':':13}{text}" for name, text in about.items()]
    for section, members in groupby(figures, key=lambda figure: figure.section):
        lines += ["", section, _line("", _HEADINGS, width), "-" * (width + 67)]
        lines += [_line(figure.name, _cells(figure), width) for figure in members]
    missed = [figure for figure in figures if figure.verdict in ("no", "least")]
    aimed = sum(bool(figure.verdict) for figure in figures)
    return "\n".join([*lines, "", f"{aimed - len(missed)} of {aimed} targets met by the median."])


def write_json(path: Path, about: dict[str, str], figures: Sequence[Figure]) -> None:
    entries = [
        asdict(figure) | {"ratio": figure.ratio, "target": figure.target, "met": figure.verdict} for figure in figures
    ]
    path.write_text(json.dumps({**about, "figures": entries}, indent=2) + "\n")


def _cells(figure: Figure) -> tuple[str, ...]:
    against = "" if figure.ratio is None else f"{figure.peer_name} {_rounded_ratio(figure.ratio)} x"
    return (
        _rounded(figure.typical),
        _rounded(figure.least),
        figure.unit,
        against,
        figure.target,
        figure.verdict,
    )


def _line(name: str, cells: Sequence[str], width: int) -> str:
    typical, least, unit, against, target, met = cells
    return f"{name:{width}} {typical:>8} {least:>8} {unit:5}  {against:20} {target:18} {met:5}".rstrip()


def _rounded(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def _rounded_ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio >= 2 else f"{ratio:.2f}"


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
