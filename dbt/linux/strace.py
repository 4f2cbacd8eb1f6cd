"""A line for each system call, each signal and the end of a guest, for people (as Linux's strace) or as JSON.

Owns: `Strace`, which stands between a process and its kernel, and what `--strace=ITEMS` may say. A run without it has
no part of this module. Must not know: what arguments mean (dbt.linux.rendering), how a call is carried out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.linux.exits import Executed, Forked, Waits, Yields
from dbt.linux.host import int64
from dbt.linux.rendering import Renderer, error
from dbt.linux.signatures import CLASSES, SIGNATURES, Signature, members, parameter

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_UNKNOWN = Signature((parameter("hex"),) * 6, parameter("long"))


class Selection(NamedTuple):
    """What to show: of which calls (None: of all), in which form, and how much of a string."""

    calls: frozenset[str] | None = None
    as_json: bool = False
    times: bool = False
    strings: int = 32


def selection(text: str) -> Selection:
    """From a list with commas: `json`, `time`, `strings=N`, classes and names of calls. ValueError, in a sentence."""
    chosen = Selection()
    calls: set[str] = set()
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if item == "json":
            chosen = chosen._replace(as_json=True)
        elif item == "time":
            chosen = chosen._replace(times=True)
        elif name == "strings" and value.isdecimal() and value.isascii():
            chosen = chosen._replace(strings=int(value[:9]))
        elif item in ("file", "desc", *CLASSES):
            calls |= members(item)
        elif item in SIGNATURES:
            calls.add(item)
        else:
            raise ValueError(f"{item!r} is no system call and none of json, time, strings=N, file, desc, "
                             f"{', '.join(CLASSES)}")
    return chosen._replace(calls=frozenset(calls) or None)


class Strace:
    """Calls `kernel.call` and tells `write` of it, a line at a time.

    The lines of a process or thread that another one has made begin with [pid N].
    """

    def __init__(self, kernel: Kernel, write: Callable[[str], None], chosen: Selection) -> None:
        self._kernel = kernel
        self._write = write
        self._chosen = chosen
        self._renderer = Renderer(kernel.space, kernel.abi, chosen.strings)
        self._first = kernel.pid
        self._start = time.monotonic()

    def call(self, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out a call as `Kernel.call` does, and show it."""
        name = self._kernel.name(number)
        if self._chosen.calls is not None and name not in self._chosen.calls:
            return self._kernel.call(number, arguments)
        signature = SIGNATURES.get(name, _UNKNOWN)
        words = arguments[:len(signature.parameters)]
        shown = self._renderer.before(signature, words)
        try:
            result = self._kernel.call(number, arguments)
        except Waits:  # it is made again
            raise
        except Yields:
            self._call(name, number, words, self._renderer.after(signature, words, shown, 0), 0, "0")
            raise
        except (Executed, Forked):
            self._call(name, number, words, self._renderer.after(signature, words, shown, -1), 0, "0")
            raise
        except BaseException:
            self._call(name, number, words, self._renderer.after(signature, words, shown, -1), None, "?")
            raise
        value = int64(result)
        self._call(name, number, words, self._renderer.after(signature, words, shown, value), value,
                   self._renderer.result(signature, value))
        return result

    def signal(self, number: int, info: bytes) -> None:
        """A signal is delivered to the guest; `info` is its siginfo."""
        self._line(f"--- {self._renderer.name('signal', number)} {self._renderer.siginfo(info)} ---",
                   signal=self._renderer.name("signal", number), info=self._renderer.siginfo(info))

    def ended(self, status: int | None, signal: int | None) -> None:
        """The guest has exited, or a signal has killed it."""
        if signal is None:
            self._line(f"+++ exited with {status} +++", exited=status)
        else:
            name = self._renderer.name("signal", signal)
            self._line(f"+++ killed by {name} +++", killed=name)

    def _call(self, name: str, number: int, words: tuple[int, ...], shown: list[str], value: int | None,
              result: str) -> None:
        head = f"{name}({', '.join(shown)})"
        failed = value is not None and -4096 < value < 0
        self._line(f"{head:<39} = {result}", name=name, number=number, arguments=shown, words=list(words), result=value,
                   errno=error(value) if failed and value is not None else None)

    def _line(self, text: str, **fields: Any) -> None:
        count, since, pid = self._kernel.clock(), time.monotonic() - self._start, self._kernel.thread.tid
        if self._chosen.as_json:
            times = {"seconds": round(since, 6)} if self._chosen.times else {}
            self._write(json.dumps({"pid": pid, "instructions": count, **times, **fields}))
            return
        before = "" if pid == self._first else f"[pid {pid}] "
        self._write(f"{before}{f'{since:.6f} ' if self._chosen.times else ''}{text}")
