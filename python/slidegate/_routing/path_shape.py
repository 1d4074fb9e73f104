"""What can be told about the paths of a route from its template."""

from __future__ import annotations

import re
from typing import Any

from .candidate import Shape

_PARAMETER = re.compile("{([a-zA-Z_][a-zA-Z0-9_]*)}")
_SEGMENT = "[^/]+"
_REST = ".*"
_WITHIN_A_SEGMENT = frozenset(
    {
        _SEGMENT,
        "[0-9]+",
        r"[0-9]+(\.[0-9]+)?",
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}",
    }
)


def shape_of(path_format: str, path_regex: object, convertors: dict[str, Any]) -> Shape | None:
    """The shape of the paths that `path_regex` matches; None when it is not what the template says, or may be other.

    Somebody may have replaced the expression, to ignore case for instance.
    """
    if not isinstance(path_regex, re.Pattern) or path_regex.flags != re.UNICODE.value:
        return None
    pieces = _PARAMETER.split(path_format)
    names, literals = pieces[1::2], pieces[::2]
    if not path_format.startswith("/") or set(names) != convertors.keys():
        return None
    expressions = [convertors[name].regex for name in names]
    groups = [f"(?P<{name}>{expression})" for name, expression in zip(names, expressions, strict=True)]
    pairs = zip(map(re.escape, literals), [*groups, ""], strict=True)
    expected = "".join(literal + group for literal, group in pairs)
    if path_regex.pattern != f"^{expected}$" or not all(map(_is_closed, expressions)):
        return None
    return _shape(literals, expressions)


def _is_closed(expression: str) -> bool:
    # One such as "a)|(b" would end the group that it is put into.
    try:
        re.compile(expression)
    except re.error:
        return False
    return True


def _shape(literals: list[str], expressions: list[str]) -> Shape:
    segments: list[str | None] = []
    is_exact = True
    text, held = "", list[str]()

    def end_segment() -> None:
        nonlocal is_exact
        segments.append(None if held else text)
        is_exact &= not held or (held == [_SEGMENT] and not text)

    for at, literal in enumerate(literals):
        first, *following = literal.split("/")
        text += first
        for each in following:
            end_segment()
            text, held = each, []
        if at == len(expressions):
            break
        if expressions[at] not in _WITHIN_A_SEGMENT:
            is_rest = expressions[at:] == [_REST] and literals[-1] == text == "" and not held
            return Shape(tuple(segments), is_open=True, is_exact=is_exact and is_rest)
        held.append(expressions[at])
    end_segment()
    return Shape(tuple(segments), is_open=False, is_exact=is_exact)
