"""What came from outside, made fit for logs and terminals."""

from __future__ import annotations

import logging
import traceback

_MOST_CHARACTERS = 200

_MOST_CAUSES = 5


def escaped(text: object, most: int = _MOST_CHARACTERS) -> str:
    """So many characters of a text, and "..." where it is longer, in one line that means nothing to a terminal.

    What is not printable is written as Python would write it in a string: line ends, escapes and other controls, marks
    that change the direction of writing, and halves of characters. Safe for whatever somebody sends.
    """
    whole = str(text)
    cut = whole[:most]
    safe = cut if cut.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cut)
    return safe if len(whole) <= most else f"{safe}..."


def escaped_error(error: BaseException, most: int = _MOST_CHARACTERS) -> str:
    """The type of an error and its text, likewise."""
    try:
        text = str(error)
    except Exception:
        # What others raise may fail to tell why.
        text = ""
    return escaped(f"{type(error).__name__}: {text}" if text else type(error).__name__, most)


def escaped_value(value: object, most: int = 50) -> str:
    """A value as Python would write it, likewise."""
    try:
        return escaped(repr(value), most)
    except Exception:
        # Of numbers with thousands of digits, for one.
        return f"a {type(value).__name__}"


def escaped_traceback(error: BaseException) -> str:
    """Where an error and its causes come from, as Python prints it, causes first, and what they say, likewise."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < _MOST_CAUSES:
        lines = traceback.format_tb(cause.__traceback__)
        told.append("".join(["Traceback (most recent call last):\n", *lines, escaped_error(cause)]))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\nThat led to:\n\n".join(reversed(told))


class EscapedTracebacks(logging.Filter):
    """Has records tell of errors as `escaped_traceback` does, as errors of callables repeat what requests sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not record.exc_text:
            record.exc_text = escaped_traceback(error)
        return True


ESCAPED_TRACEBACKS = EscapedTracebacks()
