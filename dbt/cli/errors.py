"""How a command ends: exit statuses, and the line on stderr that goes with each of ours.

Owns: the statuses and their words, and that of our version. Must not know: any command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

USAGE, DIFFER, LIMIT, FAILURE, NOT_RUNNABLE, NOT_FOUND, INTERRUPTED = 2, 3, 124, 125, 126, 127, 130

STATUSES = """\
exit status: the program's own. If a signal kills the program, dragoman dies by the same signal.
Dragoman's own, each with a line on stderr that begins "dragoman:":
  2  bad usage             124  --max-instructions reached      127  program not found
  3  the engines differ    125  dragoman itself failed          130  interrupted (Ctrl-C)
                           126  the file cannot be run
"""


class Fail(Exception):
    """Ends the command with a sentence and a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def say(message: str, *more: str) -> None:
    """A line of ours on stderr and what belongs to it, each one line whatever the name of a file has in it.

    All is written at once: other processes of the guest write there, too.
    """
    if sys.stderr is not None:
        sys.stderr.write("".join(f"{_printable(line)}\n" for line in (f"dragoman: {message}", *more)))
        sys.stderr.flush()


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def show_version() -> int:
    """Print our name and version; the status is success."""
    import dragoman

    print(f"dragoman {dragoman.__version__}")
    return 0


def why(error: OSError) -> str:
    """The reason alone, as a part of a sentence."""
    return (error.strerror or str(error)).lower()


def read(path: str) -> bytes:
    """A file of input that was asked for."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Fail(USAGE, f"cannot read {path}: {why(error)}") from None


def write(path: str, text: str) -> None:
    """Write a file that was asked for."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Fail(USAGE, f"cannot write {path}: {why(error)}") from None


def opened(action: Callable[[], Any], program: str) -> Any:
    """Do what opens a program, and say what went wrong in our words."""
    import dragoman

    try:
        return action()
    except dragoman.UnknownProgram as error:
        raise Fail(NOT_FOUND, str(error)) from None
    except FileNotFoundError as error:
        raise Fail(NOT_FOUND, f"{program or error.filename}: there is no such file") from None
    except dragoman.NotRunnable as error:
        raise Fail(NOT_RUNNABLE, str(error)) from None
    except (dragoman.UnknownIsa, dragoman.BadExtension) as error:
        raise Fail(USAGE, str(error)) from None
    except dragoman.UnsupportedHost as error:
        raise Fail(FAILURE, f"{error}; --engine=reference runs anywhere, slowly") from None
