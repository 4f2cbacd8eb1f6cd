"""What readers write, read: text, assembly, Python with a function. What is wrong with it gets a sentence.

Owns: these forms, and what goes wrong with files. Must not know: any exercise.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbt.lab.assembler import Assembled, AssemblyError, assemble
from guests.spec import Guest


class Wrong(Exception):
    """The reader's file does not do what is asked; the message is one sentence that says how."""


class Unreadable(Exception):
    """The file cannot be read; the message says why. A file that is not there is a FileNotFoundError."""


def require(holds: bool, otherwise: str) -> None:
    """Raise Wrong with this sentence unless it holds."""
    if not holds:
        raise Wrong(otherwise)


def text(file: str) -> str:
    """The file's text."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable((error.strerror or str(error)).lower()) from None
    except UnicodeDecodeError:
        raise Unreadable("it is no text in UTF-8") from None


def assembly(file: str, guest: Guest, base: int) -> Assembled:
    """The file, assembled for this guest at this address."""
    try:
        found = assemble(guest, text(file), base)
    except AssemblyError as error:
        raise Wrong(str(error)) from None
    require(bool(found.words), "it has no instructions")
    return found


def function(file: str, name: str) -> Callable[..., Any]:
    """The function of this name in a file of Python. What it raises, but for Wrong, becomes Wrong with its line."""
    names: dict[str, Any] = {"__name__": "exercise", "__file__": file}
    _guarded(file, lambda: exec(compile(text(file), file, "exec"), names))
    found: Any = names.get(name)
    require(callable(found), f"it has no function {name}")
    return lambda *arguments: _guarded(file, lambda: found(*arguments))


def _guarded(file: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (Wrong, Unreadable, FileNotFoundError):
        raise
    except SyntaxError as error:
        raise Wrong(f"line {error.lineno}: {error.msg}") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f"line {lines[-1]}: " if lines else ""
        raise Wrong(f"{where}{type(error).__name__}{': ' if str(error) else ''}{error}") from None

