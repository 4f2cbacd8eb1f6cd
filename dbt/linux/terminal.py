"""ioctl: terminals, and the few requests that work on any descriptor.

Must not know: reading and writing. A request that is not in the table is not for this kind of file: ENOTTY.
"""

from __future__ import annotations

import errno
import fcntl
import os
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.host import failure, int32

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

# Request -> (size of what the guest passes, size of what it gets): structures are the same on every host we have.
_TERMIOS, _WINSIZE, _INT = 36, 8, 4
_STRUCTURES = {
    "TCGETS": (0, _TERMIOS), "TCSETS": (_TERMIOS, 0), "TCSETSW": (_TERMIOS, 0), "TCSETSF": (_TERMIOS, 0),
    "TIOCGWINSZ": (0, _WINSIZE), "TIOCSWINSZ": (_WINSIZE, 0), "FIONREAD": (0, _INT), "TIOCOUTQ": (0, _INT),
    "TIOCGPGRP": (0, _INT), "TIOCSPGRP": (_INT, 0), "TIOCGSID": (0, _INT), "FIONBIO": (_INT, 0),
}
_PLAIN = ("TCSBRK", "TCXONC", "TCFLSH", "TIOCSCTTY", "TIOCNOTTY")  # the argument is a number


def ioctl(kernel: Kernel, fd: int, request: int, argument: int) -> int:
    entry = kernel.descriptors.get(int32(fd))
    request &= 0xFFFFFFFF
    name = next((name for name, number in kernel.abi.IOCTLS.items() if number == request), "")
    if name == "FIOCLEX":
        entry.close_on_exec = True
        return 0
    if name == "FIONCLEX":
        entry.close_on_exec = False
        return 0
    if name == "TIOCGSID":  # Python's termios module does not name it on every host
        session = os.getsid(0) if os.isatty(entry.host) else -1
        if session < 0:
            raise failure(errno.ENOTTY)
        kernel.space.write(argument, session.to_bytes(4, "little"))
        return 0
    if name in _PLAIN:
        return fcntl.ioctl(entry.host, getattr(termios, name), int32(argument))
    if name not in _STRUCTURES:
        raise failure(errno.ENOTTY)
    taken, given = _STRUCTURES[name]
    data = kernel.space.read(argument, taken) if taken else bytes(given)
    answer = fcntl.ioctl(entry.host, getattr(termios, name), data)
    if given:
        kernel.space.write(argument, answer[:given])
    return 0


CALLS: dict[str, Callable[..., int | None]] = {"ioctl": ioctl}
