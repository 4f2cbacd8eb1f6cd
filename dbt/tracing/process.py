"""Events of a program: system calls, signals, and those of its engine; each thread has a track.

Owns: what is looked at for them. Must not know: who takes events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dbt.report import signal_name, symbols_of
from dbt.tracing.engine import EngineEvents

if TYPE_CHECKING:
    from dbt.process import Process
    from dbt.tracing.events import Recorder

TRACK = "program"


class ProcessEvents:
    """Has a recorder told of a process under the translating engine, which must not have run yet."""

    def __init__(self, process: Process, recorder: Recorder) -> None:
        self._process = process
        self._recorder = recorder
        self._known: tuple[object, Any] = (None, None)  # the image whose symbols these are
        self._engine = EngineEvents(process.engine, recorder, self._count, self._at, TRACK, who=self._track)
        if "syscall" in recorder.kinds:
            kernel: Any = process.kernel
            kernel.call = self._calling(kernel.call)
        if "signal" in recorder.kinds:
            process.signalled.append(self._signalled)

    def finish(self) -> None:
        """The run has ended."""
        self._engine.finish()

    def _count(self) -> int:
        return self._process.state.count

    def _track(self) -> str:
        """Which thread has the CPU: the first one is the program."""
        threads = self._process.kernel.threads
        return TRACK if threads.current is threads.leader else f"thread {threads.current.tid}"

    def _at(self, pc: int) -> str:
        """A symbol's name, of the program that runs now."""
        image, symbols = self._known
        if image is not self._process.image:
            image, symbols = self._known = self._process.image, symbols_of(self._process)
        return str(symbols.at(pc))

    def _calling(self, call: Callable[[int, tuple[int, ...]], int]) -> Callable[[int, tuple[int, ...]], int]:
        kernel, recorder = self._process.kernel, self._recorder

        def noted(number: int, arguments: tuple[int, ...]) -> int:
            since, count, track = recorder.now(), self._count(), self._track()
            result: int | None = None
            try:
                result = call(number, arguments)
                return result
            finally:
                value = {} if result is None else {"result": result - (result >> 63 << 64)}
                recorder.note("syscall", kernel.name(number), count, track, since, arguments=list(arguments), **value)

        return noted

    def _signalled(self, number: int, info: bytes) -> None:
        self._recorder.note("signal", signal_name(number), self._count(), self._track(), pc=self._process.pc)
