"""What came from outside, made fit for logs and terminals."""

from __future__ import annotations

_MOST_CHARACTERS = 200


def shown(text: object, most: int = _MOST_CHARACTERS) -> str:
    """So many characters of a text, and "..." where it is longer, in one line that means nothing to a terminal.

    What is not printable is written as Python would write it in a string: line ends, escapes and other controls, marks
    that change the direction of writing, and halves of characters. Safe for whatever somebody sends.
    """
    whole = str(text)
    cut = whole[:most]
    safe = cut if cut.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)
    return safe if len(whole) <= most else f"{safe}..."


def shown_error(error: BaseException, most: int = _MOST_CHARACTERS) -> str:
    """The type of an error and its text, likewise."""
    try:
        text = str(error)
    except Exception:
        # What others raise may fail to tell why.
        text = ""
    return shown(f"{type(error).__name__}: {text}" if text else type(error).__name__, most)


def shown_value(value: object, most: int = 50) -> str:
    """A value as Python would write it, likewise."""
    try:
        return shown(repr(value), most)
    except Exception:
        # Of numbers with thousands of digits, for one.
        return f"a {type(value).__name__}"
