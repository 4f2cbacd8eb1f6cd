"""execve and execveat: another program in this process.

Whatever can go wrong is found out while the old program is still whole; what goes wrong after that kills, as on Linux.
A program of the host's, which Linux would run beside the guest's, takes the place of all of us.
Must not know: what a file has to be (programs.py), registers, engines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal as host_signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from dbt.elf import NotRunnable
from dbt.linux import programs
from dbt.linux.exits import Executed
from dbt.linux.host import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, failure
from dbt.linux.signals import SIG_IGN

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_LONGEST_STRING = 131072  # MAX_ARG_STRLEN: 32 pages
_MOST_STRINGS = 6 << 20  # three quarters of the usual stack, whatever the limit says
_WORD = 8
_HEAD, _MACHINE = 20, 18  # of an ELF header: so much tells the machine, which is in its last bytes
_NOT_RUNNABLE = 126


def execve(kernel: Kernel, path: int, arguments: int, environment: int) -> NoReturn:
    name = kernel.path(path)
    if not name:
        raise failure(errno.ENOENT)
    _execute(kernel, kernel.at(AT_FDCWD, name)[1], name, arguments, environment)


def execveat(kernel: Kernel, directory_fd: int, path: int, arguments: int, environment: int, flags: int) -> NoReturn:
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise failure(errno.EINVAL)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    name = kernel.path(path)
    directory, found = kernel.at(directory_fd, name, empty=bool(flags & AT_EMPTY_PATH), follow=follow)
    if directory != AT_FDCWD:  # named as Linux names it for a script's interpreter
        number = directory_fd & 0xFFFFFFFF
        name = b"/dev/fd/%d/%s" % (number, name) if name else b"/dev/fd/%d" % number
        if found and kernel.descriptors.get(number).close_on_exec:
            number = -1
        found = b"/proc/self/fd/%d/%s" % (directory, found) if found else b"/proc/self/fd/%d" % directory
    if not follow and os.path.islink(found):
        raise failure(errno.ELOOP)
    _execute(kernel, found, name, arguments, environment)


def _execute(kernel: Kernel, path: bytes, name: bytes, arguments: int, environment: int) -> NoReturn:
    room = min(max(kernel.limits.stack() // 4, _LONGEST_STRING), _MOST_STRINGS)
    argv = _strings(kernel, arguments, room) or [b""]
    env = _strings(kernel, environment, room - _size(argv))
    try:
        program = programs.find(path, argv, kernel.abi, lambda found: kernel.at(AT_FDCWD, found)[1], name=name,
                                checked=True)  # fmt: skip
        if _size(program.argv) + _size(env) > room:
            raise failure(errno.E2BIG)
        kernel.check(program)
        if _is_written(kernel, program.path):
            raise failure(errno.ETXTBSY)
    except NotRunnable as error:
        if error.code == errno.ENOEXEC and _is_written(kernel, path):
            raise failure(errno.ETXTBSY) from error
        if error.code == errno.ENOEXEC and _is_for_host(path):
            _leave_to_host(kernel, path, argv, env)
        raise failure(error.code) from error
    raise Executed(program, env)


def _is_written(kernel: Kernel, path: bytes) -> bool:
    """Whether the guest itself has a file open for writing; who else does, only the host's kernel knows."""
    found = os.stat(path)
    hosts = [kernel.descriptors.host(number) for number in kernel.descriptors.numbers()]
    return any(fcntl.fcntl(each, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR) for each in hosts
               if os.path.samestat(os.fstat(each), found))  # fmt: skip


def _size(strings: list[bytes] | tuple[bytes, ...]) -> int:
    return sum(len(text) + 1 + _WORD for text in strings)


def _strings(kernel: Kernel, address: int, room: int) -> list[bytes]:
    """The strings that an array of pointers names, up to a null; none if there is no array."""
    found: list[bytes] = []
    while address and (pointer := kernel.space.load(address, _WORD)):
        try:
            text = kernel.space.read_cstring(pointer, _LONGEST_STRING)
        except OSError as error:  # longer than that
            raise failure(errno.E2BIG) from error
        found.append(text)
        room -= len(text) + 1 + _WORD
        if room < 0:
            raise failure(errno.E2BIG)
        address += _WORD
    return found


def _is_for_host(path: bytes) -> bool:
    """Whether a file is a program of the machine that we run on."""
    with open(path, "rb") as file, open("/proc/self/exe", "rb") as own:
        head, ours = file.read(_HEAD), own.read(_HEAD)
    return head[:6] == ours[:6] and head[_MACHINE:] == ours[_MACHINE:]


def _leave_to_host(kernel: Kernel, path: bytes, argv: list[bytes], env: list[bytes]) -> NoReturn:
    """Be a program of the host's from now on, with descriptors and signals as the guest has them."""
    kernel.leaving()
    descriptors = kernel.descriptors
    kept = [number for number in descriptors.numbers() if not descriptors.get(number).close_on_exec]
    above = max([*kept, *map(descriptors.host, kept), 2]) + 1
    for at, number in enumerate(kept):
        os.dup2(descriptors.host(number), above + at, inheritable=False)
    for at, number in enumerate(kept):
        os.dup2(above + at, number, inheritable=True)
    for number in {0, 1, 2}.difference(kept):
        with suppress(OSError):
            os.close(number)
    for number in host_signal.valid_signals():
        ignored = kernel.signals.disposition(number) == SIG_IGN
        with suppress(OSError):  # SIGKILL and SIGSTOP
            host_signal.signal(number, host_signal.SIG_IGN if ignored else host_signal.SIG_DFL)
    blocked = [number for number in host_signal.valid_signals() if kernel.signals.mask >> number - 1 & 1]
    host_signal.pthread_sigmask(host_signal.SIG_SETMASK, blocked)
    try:
        os.execve(path, argv, dict(text.partition(b"=")[::2] for text in env))
    except OSError as error:
        kernel.tell_once(f"{os.fsdecode(path)}: the host cannot run it: {(error.strerror or str(error)).lower()}")
        os._exit(_NOT_RUNNABLE)


CALLS: dict[str, Callable[..., int | None]] = {"execve": execve, "execveat": execveat}
