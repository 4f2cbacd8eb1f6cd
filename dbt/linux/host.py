"""The host's C library and system calls, for calls that `os` lacks or does not pass through exactly.

Owns: prototypes and the errno convention. Must not know: the guest, its memory or its descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import partial
from typing import Any

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x1000

_int, _uint, _path, _size, _long, _pointer = (ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_size_t,
                                              ctypes.c_int64, ctypes.c_void_p)
_ulong = ctypes.c_ulong
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "faccessat": (_int, _path, _int, _int),
    "fallocate": (_int, _int, _long, _long),
    "fchmodat": (_int, _path, _uint, _int),
    "fchownat": (_int, _path, _uint, _uint, _int),
    "fstatfs": (_int, _pointer),
    "getdents64": (_int, _pointer, _size),
    "getrusage": (_int, _pointer),
    "linkat": (_int, _path, _int, _path, _int),
    "mincore": (_pointer, _size, _pointer),
    "mkdirat": (_int, _path, _uint),
    "mknodat": (_int, _path, _uint, ctypes.c_uint64),
    "prctl": (_int, _ulong, _ulong, _ulong, _ulong),
    "readlinkat": (_int, _path, _pointer, _size),
    "renameat2": (_int, _path, _int, _path, _uint),
    "statfs": (_path, _pointer),
    "statx": (_int, _path, _int, _uint, _pointer),
    "symlinkat": (_path, _int, _path),
    "syncfs": (_int,),
    "sysinfo": (_pointer,),
    "unlinkat": (_int, _path, _int),
    "utimensat": (_int, _path, _pointer, _int),
}
_libc = ctypes.CDLL(None, use_errno=True)
_SIGNAL_SET = 128  # bytes of the C library's
_sigmask = _libc.pthread_sigmask
_sigmask.argtypes = (_int, _path, _pointer)


def _prototype(name: str, arguments: tuple[Any, ...]) -> Any:
    function = getattr(_libc, name)
    function.argtypes = arguments
    function.restype = ctypes.c_ssize_t if name in ("getdents64", "readlinkat") else ctypes.c_int
    return function


_FUNCTIONS = {name: _prototype(name, arguments) for name, arguments in _PROTOTYPES.items()}


def _function(name: str) -> Any:
    """The C function that has a prototype above, or else the system call of that name."""
    found = _FUNCTIONS.get(name)
    if found is None:
        from dbt.linux.blocking import calls  # most programs make no such call

        raw = _libc.syscall
        raw.argtypes = (ctypes.c_long, *[_pointer] * 6)
        raw.restype = ctypes.c_long
        found = _FUNCTIONS[name] = partial(_raw, raw, calls().numbers[name])
    return found


def _raw(syscall: Any, number: int, *arguments: Any) -> int:
    return int(syscall(number, *arguments, *[0] * (6 - len(arguments))))


def call(name: str, *arguments: Any) -> int:
    """Make a call; OSError when it says -1. Interrupted calls are made again once signals are handled.

    Arguments of system calls by number are integers, buffers or None.
    """
    function = _function(name)
    while True:
        result = int(function(*arguments))
        if result != -1:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def hold(how: int, signals: int) -> int:
    """Change which signals the host keeps back from this thread, as sigprocmask; the set before. Bit n-1 is signal n.

    `signal.pthread_sigmask` makes an object of each signal, at every change.
    """
    before = ctypes.create_string_buffer(_SIGNAL_SET)
    code = _sigmask(how, signals.to_bytes(_SIGNAL_SET, "little"), before)
    if code:
        raise failure(code)
    return int.from_bytes(before.raw[:8], "little")


def int32(value: int) -> int:
    """The C int in the low half of an argument register."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def identity(value: int) -> int:
    """A user or group number; all ones is -1, "leave it"."""
    value &= 0xFFFFFFFF
    return -1 if value == 0xFFFFFFFF else value


def int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))
