"""System calls on the address space: the break, mmap and its relatives, advice, instruction-cache flushes.

Must not know: how the address space does it (dbt.memory).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux.host import failure, int32
from dbt.memory import LOWEST, PAGE_SIZE, READ, WRITE, page_up

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MAP_SHARED, _MAP_PRIVATE, _MAP_SHARED_VALIDATE, _MAP_TYPE = 1, 2, 3, 0xF
_MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x10, 0x20, 0x4000, 0x100000
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_MADV_DONTNEED = 4
_HARMLESS_ADVICE = frozenset((0, 1, 2, 3, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25))
_MS_ASYNC, _MS_INVALIDATE, _MS_SYNC = 1, 2, 4
_MEMBARRIER_COMMANDS = 0b1111111  # query's answer: global and the private and registering forms


def brk(kernel: Kernel, wanted: int) -> int:
    """Never fails: returns the break as it is then."""
    old_end, new_end = page_up(kernel.break_end), page_up(wanted)
    if wanted < kernel.break_start or new_end > kernel.space.size:
        return kernel.break_end
    if new_end > old_end:
        try:
            kernel.space.map(old_end, new_end - old_end, READ | WRITE, fixed=True, noreplace=True, name="[heap]")
        except OSError:
            return kernel.break_end  # the answer that says "no"
    elif new_end < old_end:
        kernel.space.unmap(new_end, old_end - new_end)
    kernel.break_end = wanted
    return wanted


def mmap(kernel: Kernel, address: int, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    kind = flags & _MAP_TYPE
    if kind not in (_MAP_SHARED, _MAP_PRIVATE, _MAP_SHARED_VALIDATE) or length == 0 or offset % PAGE_SIZE:
        raise failure(errno.EINVAL)
    fixed = bool(flags & (_MAP_FIXED | _MAP_FIXED_NOREPLACE))
    if fixed and address % PAGE_SIZE == 0 and address < LOWEST:
        raise failure(errno.EPERM)  # vm.mmap_min_addr
    host_fd, name = -1, ""
    if not flags & _MAP_ANONYMOUS:
        host_fd = kernel.fd(fd)
        name = os.readlink(f"/proc/self/fd/{host_fd}")
    return kernel.space.map(address, length, protection, fixed=fixed, noreplace=bool(flags & _MAP_FIXED_NOREPLACE),
                            fd=host_fd, offset=offset if host_fd >= 0 else 0, shared=kind != _MAP_PRIVATE,
                            reserve=not flags & _MAP_NORESERVE, name=name)


def munmap(kernel: Kernel, address: int, length: int) -> None:
    kernel.space.unmap(address, length)


def mprotect(kernel: Kernel, address: int, length: int, protection: int) -> None:
    kernel.space.protect(address, length, protection)


def mremap(kernel: Kernel, old: int, old_length: int, new_length: int, flags: int, new: int) -> int:
    if flags & ~(_MREMAP_MAYMOVE | _MREMAP_FIXED):
        raise failure(errno.EINVAL)
    return kernel.space.remap(old, old_length, new_length, may_move=bool(flags & _MREMAP_MAYMOVE),
                              to=new if flags & _MREMAP_FIXED else None)


def _need_mapped(kernel: Kernel, address: int, length: int) -> None:
    """EINVAL for a bad range, ENOMEM for a hole."""
    if address % PAGE_SIZE:
        raise failure(errno.EINVAL)
    end = address + page_up(length)
    while address < end:
        region = kernel.space.region_at(address)
        if region is None:
            raise failure(errno.ENOMEM)
        address = region.end


def madvise(kernel: Kernel, address: int, length: int, advice: int) -> None:
    advice = int32(advice)
    if advice not in _HARMLESS_ADVICE and advice != _MADV_DONTNEED:
        raise failure(errno.EINVAL)
    _need_mapped(kernel, address, length)
    if advice == _MADV_DONTNEED and length:
        kernel.space.discard(address, length)


def msync(kernel: Kernel, address: int, length: int, flags: int) -> None:
    both = _MS_ASYNC | _MS_SYNC
    if flags & ~(both | _MS_INVALIDATE) or flags & both == both:
        raise failure(errno.EINVAL)
    if length:
        kernel.space.sync(address, length, int32(flags))


def mincore(kernel: Kernel, address: int, length: int, result: int) -> None:
    _need_mapped(kernel, address, length)
    kernel.space.write(result, b"\1" * (page_up(length) // PAGE_SIZE))


def mlock(kernel: Kernel, address: int, length: int) -> None:
    """Locked pages would differ in nothing the guest can see, so only the range is checked."""
    start = address // PAGE_SIZE * PAGE_SIZE
    _need_mapped(kernel, start, length + address - start)


def mlock2(kernel: Kernel, address: int, length: int, flags: int) -> None:
    if flags & ~1:
        raise failure(errno.EINVAL)
    mlock(kernel, address, length)


def mlockall(kernel: Kernel, flags: int) -> None:
    if not flags or flags & ~7:
        raise failure(errno.EINVAL)


def munlockall(kernel: Kernel) -> None:
    """Nothing is ever locked."""


def membarrier(kernel: Kernel, command: int, flags: int, cpu: int) -> int:
    command = int32(command)
    if flags or command < 0 or command.bit_count() > 1 or command & ~_MEMBARRIER_COMMANDS:
        raise failure(errno.EINVAL)
    return _MEMBARRIER_COMMANDS if command == 0 else 0  # one thread needs no barrier


def riscv_flush_icache(kernel: Kernel, start: int, end: int, flags: int) -> None:
    if flags & ~1:
        raise failure(errno.EINVAL)
    if kernel.on_flush_icache is not None:
        kernel.on_flush_icache()  # all of it, whatever the range, as Linux does


CALLS: dict[str, Callable[..., int | None]] = {
    "brk": brk, "mmap": mmap, "munmap": munmap, "mprotect": mprotect, "mremap": mremap, "madvise": madvise,
    "msync": msync, "mincore": mincore, "mlock": mlock, "mlock2": mlock2, "munlock": mlock, "mlockall": mlockall,
    "munlockall": munlockall, "membarrier": membarrier, "riscv_flush_icache": riscv_flush_icache,
}
