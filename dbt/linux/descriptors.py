"""The guest's descriptor table: guest numbers on host descriptors.

Owns: number allocation, close-on-exec flags, closing. Must not know: paths, guest memory, system calls.

Every guest number has a host descriptor of its own (dup makes another), so nothing is counted here, and no
number that the guest invents can reach a descriptor of ours.
"""

from __future__ import annotations

import errno
import os
import stat

from dbt.linux.host import failure
from ir.records import record


@record
class Descriptor:
    host: int
    close_on_exec: bool = False
    owned: bool = True  # False: handed in by the caller, who closes it
    place: bytes | None = None  # `Kernel.place` of what is open; None: not asked yet
    prompt: bool | None = None  # whether reads and writes never sleep, so that no signal ends them; None: not asked yet


_MEMORY_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7))  # null, zero and full


def _is_prompt(host: int) -> bool:
    found = os.fstat(host)
    return stat.S_ISREG(found.st_mode) or (stat.S_ISCHR(found.st_mode) and found.st_rdev in _MEMORY_DEVICES)


class Descriptors:
    def __init__(self, standard: tuple[int, int, int], limit: int) -> None:
        self.limit = limit
        self._table = {guest: Descriptor(host, owned=False) for guest, host in enumerate(standard) if host >= 0}

    def host(self, guest: int) -> int:
        return self.get(guest).host

    def get(self, guest: int) -> Descriptor:
        found = self._table.get(guest)
        if found is None:
            raise failure(errno.EBADF)
        return found

    def to_move(self, guest: int) -> tuple[int, bool]:
        """For a read or a write: the host's descriptor, and whether the call is over without ever sleeping."""
        found = self.get(guest)
        if found.prompt is None:
            found.prompt = _is_prompt(found.host)
        return found.host, found.prompt

    def numbers(self) -> list[int]:
        return sorted(self._table)

    def free(self, lowest: int = 0) -> int:
        """The lowest free number, as POSIX wants it."""
        guest = lowest
        while guest in self._table:
            guest += 1
        if guest >= self.limit:
            raise failure(errno.EMFILE)
        return guest

    def add(self, host: int, close_on_exec: bool = False, lowest: int = 0) -> int:
        """Give a host descriptor that is ours a guest number; it is closed if there is none."""
        try:
            guest = self.free(lowest)
        except OSError:
            os.close(host)
            raise
        self._table[guest] = Descriptor(host, close_on_exec)
        return guest

    def put(self, guest: int, host: int, close_on_exec: bool) -> None:
        """Put a host descriptor at a number, closing what was there."""
        old = self._table.get(guest)
        self._table[guest] = Descriptor(host, close_on_exec)
        if old is not None and old.owned:
            os.close(old.host)

    def close(self, guest: int) -> None:
        found = self.get(guest)
        del self._table[guest]
        if found.owned:
            os.close(found.host)

    def close_on_exec(self) -> None:
        for guest in self.numbers():
            if self._table[guest].close_on_exec:
                self.close(guest)

    def moved(self) -> None:
        """In another process, other folders below /proc are the guest's own."""
        for entry in self._table.values():
            entry.place = None

    def close_all(self) -> None:
        for guest in self.numbers():
            self.close(guest)
