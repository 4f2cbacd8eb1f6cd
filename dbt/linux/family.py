"""Numbers of processes, as the guest and the host have them: where a seed decides the guest's, they differ.

Owns: the pairs that are known: of ourselves, our parent and our children. Must not know: what is done to processes.
"""

from __future__ import annotations

import os


class Family:
    """`own`: the guest's number of this process. A number that is not known is the same for both."""

    def __init__(self, own: int) -> None:
        self._hosts: dict[int, int] = {}
        self._guests: dict[int, int] = {}
        self.add(own, os.getpid())

    def add(self, guest: int, host_pid: int) -> None:
        if guest != host_pid:
            self._hosts[guest], self._guests[host_pid] = host_pid, guest

    def add_thread(self, guest: int) -> None:
        """A thread of ours: for the host it is our process."""
        self._hosts[guest] = os.getpid()

    def remove(self, guest: int) -> None:
        self._hosts.pop(guest, None)

    def host(self, guest: int) -> int:
        return self._hosts.get(guest, guest)

    def guest(self, host_pid: int) -> int:
        return self._guests.get(host_pid, host_pid)
