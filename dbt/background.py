"""Compiling in the background: what is wanted waits here, one request at a time is with the worker, answers come back.

Nobody waits: the guest runs on, and the run loop looks at the pipe between its slices. What is asked first is decided
when the worker is free, by what ran most since it was asked for; what has not run since is forgotten. A worker that
dies or takes too long is replaced, a few times; then the rest of the run does without, and `note` says so.
Owns: the queue, the worker's life. Must not know: what a request says, where translations go.
"""

from __future__ import annotations

import os
import select
import signal
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from dbt.block import Key, Made
from dbt.options import Options
from dbt.regions import Request
from guests.spec import Guest
from ir.records import record

if TYPE_CHECKING:
    from dbt.orphans import Ranges

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FAILURES = 3  # workers that may die until there are no more
PATIENCE = 60.0  # seconds of wall time for one answer, the worker's start included
CHUNK = 1 << 16


@record
class BackgroundStats:
    """What was asked of workers."""

    asked: int = 0
    answered: int = 0
    forgotten: int = 0  # what had gone cold before its turn
    refused: int = 0  # what no code could be made of
    lost: int = 0  # workers that died
    seconds: float = 0.0  # CPU seconds of workers, on requests that they answered


class Background:
    """The worker of one engine, which starts with the first request. `request` makes the request for a key, or none if
    it is not worth one yet, and is to be wanted again; it is told whether a worker has to be started. `ran` says how
    often the block of a key has run, `is_led_to` whether a translation goes on there.

    `gave_up` is told of keys that no answer will come for; `apart` says which memory a worker has no use for.
    """

    def __init__(
        self, guest: Guest, options: Options, request: Callable[[Key, bool], Request | None],
        ran: Callable[[Key], int], is_led_to: Callable[[Key], bool], gave_up: Callable[[Key, bool], None],
        apart: Callable[[], Ranges] = tuple,
    ) -> None:  # fmt: skip
        self._guest, self._options = guest, options
        self._request, self._ran, self._is_led_to = request, ran, is_led_to
        self._gave_up, self._apart = gave_up, apart
        self.stats = BackgroundStats()
        self.note = ""
        self.queue: dict[Key, int] = {}  # what is wanted, and how often it had run when it was asked for
        self.asked: Request | None = None  # what is with the worker
        self._since = 0.0
        self._served = 0
        self._child = 0
        self._handle = -1  # a descriptor of the worker, which may be signalled when its number is another's
        self._to = self._from = -1
        self._received = bytearray()
        self._usable = True
        _alive.add(self)

    @property
    def waiting(self) -> bool:
        """Whether there is something to be looked after."""
        return self.asked is not None or bool(self.queue)

    def want(self, key: Key) -> bool:
        """Have this translated; False if there is no worker for it any more."""
        if not self._usable:
            return False
        if key not in self.queue and (self.asked is None or self.asked.key != key):
            self.queue[key] = self._ran(key)
            self._next()
        return True

    def poll(self) -> Made | None:
        """A translation that has come, if one has; else what is to be done next is asked for.

        Not before what has come is installed, since it may serve what else is wanted.
        """
        if self.asked is None:
            self._next()
            return None
        answer = self._read()
        if answer is None:
            if time.monotonic() - self._since > PATIENCE:
                self._lost()
            return None
        key, packed, error, seconds = answer
        self.stats.answered += 1
        self.stats.seconds += sum(seconds.values())
        self.asked = None
        if error:
            self.stats.refused += 1
            self._gave_up(key, False)
            self._next()
            return None
        from dbt.cache.record import unpack_made

        return unpack_made(packed)

    def wait(self, seconds: float) -> bool:
        """Whether the answer to what is asked for has come in this time, for `poll`. Nothing else is asked for then."""
        self.queue.clear()
        deadline, coming = time.monotonic() + seconds, select.poll()
        coming.register(self._from, select.POLLIN)
        while self.asked is not None and not self._has_come():
            left = deadline - time.monotonic()
            if left <= 0 or not coming.poll(left * 1000):
                return False
        return self.asked is not None

    def close(self) -> None:
        """End the worker; what it was asked for is lost."""
        self._end()
        self.queue.clear()
        self.asked = None
        self._usable = False

    def forget(self) -> None:
        """In a forked child: the worker is the parent's."""
        self._let_go()
        self.queue.clear()
        self.asked = None

    # --- inside ---------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Ask for what is wanted most, if the worker is free."""
        from dbt.worker import LATE_BOUND, request_message

        while self.queue and self.asked is None:
            if self._served >= LATE_BOUND:
                self._end()
            key = max(self.queue, key=self._rank)
            before = self.queue.pop(key)
            if self.queue and key[1] and self._ran(key) == before:
                self.stats.forgotten += 1
                self._gave_up(key, True)
                continue
            asked = self._request(key, not self._child)
            if asked is None:
                continue
            if not asked.source:  # there is no code any more
                self._gave_up(key, True)
                continue
            while not self._child and self._usable:
                self._start()
            if not self._usable:
                return
            self.asked = asked
            self.stats.asked += 1
            self._served += 1
            self._since = time.monotonic()
            try:
                os.write(self._to, request_message(self.asked))
            except BrokenPipeError:
                self._lost()

    def _rank(self, key: Key) -> tuple[bool, int, bool, int]:
        """What is wanted most has the highest. The rest of a cut block: nothing counts how often it runs, and each time
        asks the monitor. Of what is about as hot, that where translations lead: in its middle they would not enter.
        """
        ran = self._ran(key) - self.queue[key]
        return not key[1], ran.bit_length(), self._is_led_to(key), ran

    def _start(self) -> None:
        """Have a worker. It may die at once, some times, or there is none any more."""
        from dbt import orphans, worker

        to_child, self._to = os.pipe()
        self._from, from_child = os.pipe()
        null = os.open(os.devnull, os.O_WRONLY)
        descriptors = to_child, from_child, null
        copied = orphans.alone()
        try:
            if copied:
                work = partial(worker.serve, self._guest, worker.shaping(self._options))
                self._child = orphans.copy(work, descriptors, self._apart())
            else:
                path = os.pathsep.join(p for p in (ROOT, os.environ.get("PYTHONPATH")) if p)
                self._child = orphans.new(worker.command(), {**os.environ, "PYTHONPATH": path}, descriptors)
            with suppress(ProcessLookupError):  # gone already, which its pipe will tell
                self._handle = os.pidfd_open(self._child)
        except OSError as error:
            self._abandon(f"no compile worker could be started: {error.strerror}")
            return
        finally:
            for fd in descriptors:
                os.close(fd)
        os.set_blocking(self._from, False)
        self._served = 0
        if not copied:
            try:
                os.write(self._to, worker.introduction(self._guest, self._options))
            except BrokenPipeError:
                self._lost()

    def _read(self) -> tuple[Key, bytes, str, dict[str, float]] | None:
        """The answer, if all of it is there."""
        if not self._has_come():
            return None
        import marshal

        from dbt.worker import LENGTH

        answer: tuple[Key, bytes, str, dict[str, float]] = marshal.loads(self._received[LENGTH.size :])
        self._received.clear()
        return answer

    def _has_come(self) -> bool:
        """Whether all of an answer is there; a worker that is gone is noticed."""
        from dbt.worker import LENGTH

        while True:
            try:
                chunk = os.read(self._from, CHUNK)
            except BlockingIOError:
                break
            if not chunk:
                self._lost()
                return False
            self._received += chunk
        if len(self._received) < LENGTH.size:
            return False
        (length,) = LENGTH.unpack_from(self._received)
        return len(self._received) >= LENGTH.size + length

    def _lost(self) -> None:
        """The worker is gone, or is taken to be: what it was doing is not asked for again."""
        asked, self.asked = self.asked, None
        self.stats.lost += 1
        self._end()
        if asked is not None:
            self._gave_up(asked.key, False)
        if self.stats.lost >= FAILURES:
            self._abandon(f"{FAILURES} compile workers died: hot code stays in stencils from now on")

    def _end(self) -> None:
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        self._let_go()

    def _let_go(self) -> None:
        """Know no worker any more."""
        for descriptor in (self._to, self._from, self._handle):
            if descriptor >= 0:
                os.close(descriptor)
        self._child, self._to, self._from, self._handle = 0, -1, -1, -1
        self._received.clear()

    def _abandon(self, note: str) -> None:
        self.note, self._usable = note, False
        self.queue.clear()


_alive: weakref.WeakSet[Background] = weakref.WeakSet()


def _forked() -> None:
    for one in list(_alive):
        one.forget()


os.register_at_fork(after_in_child=_forked)
