"""System calls on the address space: the break, mmap and its relatives, advice, instruction-cache flushes.

Must not know: how the address space does it (dbt.memory).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.host import failure, int32
from dbt.linux.vectors import Vectors
from dbt.memory import LOWEST, PAGE_SIZE, READ, WRITE, page_up

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_MAP_SHARED, _MAP_PRIVATE, _MAP_SHARED_VALIDATE, _MAP_TYPE = 1, 2, 3, 0xF
_MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE = 0x10, 0x20, 0x4000, 0x100000
_MAP_HUGETLB = 0x40000
_MAP_VALIDATED = 0x17FFFF  # what MAP_SHARED_VALIDATE lets through: every flag that Linux knows, but MAP_SYNC
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_PROT_KNOWN, _PROT_GROWSDOWN, _PROT_GROWSUP = 0xF, 0x01000000, 0x02000000  # PROT_SEM is known, and nothing
_MADV_DONTNEED, _MADV_REMOVE, _MADV_WIPEONFORK, _MADV_KEEPONFORK = 4, 9, 18, 19
_BY_THE_HOST = frozenset((_MADV_REMOVE, _MADV_WIPEONFORK, _MADV_KEEPONFORK))
# Advice that changes nothing that a guest can see. A child keeps what MADV_DONTFORK would spare it.
_HARMLESS_ADVICE = frozenset((0, 1, 2, 3, 8, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 25))
_OTHERS_ADVICE = frozenset((3, 20, 21, 25))  # what process_madvise takes: WILLNEED, COLD, PAGEOUT, COLLAPSE
_MS_ASYNC, _MS_INVALIDATE, _MS_SYNC = 1, 2, 4
_MEMBARRIER_COMMANDS = 0b1111111  # query's answer: global and the private and registering forms
_MEMBARRIER_NEEDS = {2: 0, 8: 16, 32: 64}  # command -> the registration without which it is EPERM


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
    if kind == _MAP_SHARED_VALIDATE and (flags & _MAP_ANONYMOUS or flags & ~_MAP_VALIDATED):
        raise failure(errno.EINVAL if flags & _MAP_ANONYMOUS else errno.EOPNOTSUPP)
    if flags & _MAP_HUGETLB:
        raise failure(errno.ENOMEM if flags & _MAP_ANONYMOUS else errno.EINVAL)  # as where none are set aside
    fixed = bool(flags & (_MAP_FIXED | _MAP_FIXED_NOREPLACE))
    if fixed and address % PAGE_SIZE == 0 and address < LOWEST:
        raise failure(errno.EPERM)  # vm.mmap_min_addr
    if fixed:
        _need_unsealed(kernel, address, length)
    host_fd, name = -1, ""
    if not flags & _MAP_ANONYMOUS:
        host_fd = kernel.fd(fd)
        name = os.readlink(f"/proc/self/fd/{host_fd}")
    return kernel.space.map(address, length, protection, fixed=fixed, noreplace=bool(flags & _MAP_FIXED_NOREPLACE),
                            fd=host_fd, offset=offset if host_fd >= 0 else 0, shared=kind != _MAP_PRIVATE,
                            reserve=not flags & _MAP_NORESERVE, name=name)


def munmap(kernel: Kernel, address: int, length: int) -> None:
    _need_unsealed(kernel, address, length)
    kernel.space.unmap(address, length)


def mprotect(kernel: Kernel, address: int, length: int, protection: int) -> None:
    grows = protection & (_PROT_GROWSDOWN | _PROT_GROWSUP)
    if protection & ~(_PROT_KNOWN | grows) or grows == _PROT_GROWSDOWN | _PROT_GROWSUP:
        raise failure(errno.EINVAL)
    if grows and length:
        region = kernel.space.region_at(address)
        if region is None:
            raise failure(errno.ENOMEM)
        if grows == _PROT_GROWSUP or region.name != "[stack]" or address % PAGE_SIZE:
            raise failure(errno.EINVAL)  # the stack alone grows, and downwards
        address, length = region.start, length + address - region.start
    _need_unsealed(kernel, address, length)
    kernel.space.protect(address, length, protection & ~grows)


def mremap(kernel: Kernel, old: int, old_length: int, new_length: int, flags: int, new: int) -> int:
    if flags & ~(_MREMAP_MAYMOVE | _MREMAP_FIXED | _MREMAP_DONTUNMAP):
        raise failure(errno.EINVAL)
    space, to = kernel.space, new if flags & _MREMAP_FIXED else None
    _need_unsealed(kernel, old, old_length)
    if to is not None:
        _need_unsealed(kernel, to, new_length)
    region = None
    if flags & _MREMAP_DONTUNMAP:
        region = space.region_at(old)
        if not flags & _MREMAP_MAYMOVE or page_up(old_length) != page_up(new_length) or not old_length:
            raise failure(errno.EINVAL)
        if region is None:
            raise failure(errno.EFAULT)
        if region.file or region.shared:
            raise failure(errno.EINVAL)  # as before Linux 5.13
        if to is None:
            to = space.free(page_up(new_length))
    moved = space.remap(old, old_length, new_length, may_move=bool(flags & _MREMAP_MAYMOVE), to=to)
    if region is not None:
        space.map(old, old_length, region.protection, fixed=True, name=region.name)
    return moved


def remap_file_pages(kernel: Kernel, address: int, length: int, protection: int, page: int, flags: int) -> None:
    """Obsolete; the protection has to be 0, and the flags are ignored."""
    address &= -PAGE_SIZE
    length &= -PAGE_SIZE
    if protection or not length or page + length // PAGE_SIZE >= 1 << 52:
        raise failure(errno.EINVAL)
    _need_unsealed(kernel, address, length)
    kernel.space.move_in_file(address, length, page * PAGE_SIZE, lambda there: host.call(
        "remap_file_pages", there, length, 0, page, 0))


# Sealing ----------------------------------------------------------------------------------------------------------


def mseal(kernel: Kernel, address: int, length: int, flags: int) -> None:
    if flags or address % PAGE_SIZE or address + length > kernel.space.size:
        raise failure(errno.EINVAL)
    _need_mapped(kernel, address, length)
    if length:
        kernel.space.sealed.append((address, address + page_up(length)))


def _need_unsealed(kernel: Kernel, address: int, length: int) -> None:
    if any(start < address + length and address < end for start, end in kernel.space.sealed):
        raise failure(errno.EPERM)


# Advice -----------------------------------------------------------------------------------------------------------


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
    if advice not in _HARMLESS_ADVICE and advice != _MADV_DONTNEED and advice not in _BY_THE_HOST:
        raise failure(errno.EINVAL)
    _need_mapped(kernel, address, length)
    if advice == _MADV_DONTNEED and length:
        if not (kernel.space.protection(address) or 0) & WRITE:
            _need_unsealed(kernel, address, length)
        kernel.space.discard(address, length)
    elif advice in _BY_THE_HOST and length:
        kernel.space.advise(address, page_up(length), advice)


def process_madvise(kernel: Kernel, process_fd: int, vectors: int, count: int, advice: int, flags: int) -> int:
    """Advice that is for another process, too: it changes nothing that it can see."""
    with open(f"/proc/self/fdinfo/{kernel.fd(process_fd)}", "rb") as file:
        if b"Pid:" not in file.read():
            raise failure(errno.EBADF)
    if flags or int32(advice) not in _OTHERS_ADVICE:
        raise failure(errno.EINVAL)
    return sum(length for _address, length in Vectors(kernel, vectors, count, False).parts)


def msync(kernel: Kernel, address: int, length: int, flags: int) -> None:
    both = _MS_ASYNC | _MS_SYNC
    if flags & ~(both | _MS_INVALIDATE) or flags & both == both:
        raise failure(errno.EINVAL)
    if length:
        kernel.space.sync(address, length, int32(flags))


def mincore(kernel: Kernel, address: int, length: int, result: int) -> None:
    _need_mapped(kernel, address, length)
    found = ctypes.create_string_buffer(page_up(length) // PAGE_SIZE + 1)
    host.call("mincore", kernel.space.base + address, page_up(length), found)
    kernel.space.write(result, found.raw[:page_up(length) // PAGE_SIZE])


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
    """Threads in turns need no barrier; but whoever asks for one has to be registered."""
    command = int32(command)
    if flags or command < 0 or command.bit_count() > 1 or command & ~_MEMBARRIER_COMMANDS:
        raise failure(errno.EINVAL)
    if command == 0:
        return _MEMBARRIER_COMMANDS
    if command in _MEMBARRIER_NEEDS.values():
        kernel.barriers |= command
    elif _MEMBARRIER_NEEDS.get(command, 0) & ~kernel.barriers:
        raise failure(errno.EPERM)
    return 0


def riscv_flush_icache(kernel: Kernel, start: int, end: int, flags: int) -> None:
    if flags & ~1:
        raise failure(errno.EINVAL)
    if kernel.on_flush_icache is not None:
        kernel.on_flush_icache()  # all of it, whatever the range, as Linux does


CALLS: dict[str, Callable[..., int | None]] = {
    "brk": brk, "mmap": mmap, "munmap": munmap, "mprotect": mprotect, "mremap": mremap, "madvise": madvise,
    "msync": msync, "mincore": mincore, "mlock": mlock, "mlock2": mlock2, "munlock": mlock, "mlockall": mlockall,
    "munlockall": munlockall, "mseal": mseal, "remap_file_pages": remap_file_pages, "process_madvise": process_madvise,
    "membarrier": membarrier, "riscv_flush_icache": riscv_flush_icache,
}
