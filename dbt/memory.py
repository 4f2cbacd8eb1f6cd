"""The guest's address space in user mode: one reserved region of host memory, guest address = offset.

Owns: the reservation with its guard zones, the page map (one byte a page), what is mapped where, host page
protection, and the hooks by which others learn that memory changed (`watchers`, `dirty`, `record`).
Must not know: any architecture, CPU engine, system call number or file format.

The page map is the authority on what the guest may do; host protection follows it, with two differences:
the guest's EXEC never becomes the host's (guest code is data to us), and a watched page (one that translated
code was made from) is not writable on the host. Nothing here touches a page that the map does not allow, so
no guest address, however wild, can fault inside Python.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from dbt import host_memory as host
from dbt.atomic import atomic
from dbt.mappings import Mappings, Region, cut

PAGE_SIZE = 4096
PAGE_SHIFT = 12
READ, WRITE, EXEC = 1, 2, 4  # the same values as PROT_READ, PROT_WRITE, PROT_EXEC
MAPPED = 8  # the page belongs to a region, whatever its protection
WATCHED = 16  # translated code was made from this page: a write must tell the watchers
FILE = 32  # backed by a file, which may be cut short: an access may raise SIGBUS, so the kernel copies for us
PROTECTION = READ | WRITE | EXEC

GUARD = 1 << 35  # bytes around it: what is reached from an address in it by a signed 32-bit index of 8-byte things
MMAP_GAP = 256 << 20  # room for the stack between the top of the address space and the mmap base
LOWEST = 1 << 16  # mmap never chooses an address below this (vm.mmap_min_addr)
PRIVATE_COPY_LIMIT = 4 << 20  # a private mapping of a file is copied up to this size: see `_host_map_file`

LARGE = 64 << 10  # bytes that are put into memory: pages are made at once, or each would be a fault
_NEED_PAGES = 1 << 14  # that are looked at at once

_OWN = re.compile(rb"[\x81\x83]+")  # present, exclusively mapped, no page of a file (bit 0 is bit 56, and so on)
_BACKED = re.compile(rb"[\x40-\xff]")  # the highest byte of an entry of pagemap: present, or in swap space

class MemoryFault(Exception):
    """An access the guest may not make. `address` is the first byte that it may not touch."""

    def __init__(self, address: int, access: str, mapped: bool, bus: bool = False) -> None:
        super().__init__(address, access, mapped, bus)
        self.address = address
        self.access = access  # "load", "store" or "fetch"
        self.mapped = mapped  # False: SEGV_MAPERR, True: SEGV_ACCERR
        self.bus = bus  # beyond the end of a mapped file: SIGBUS rather than SIGSEGV

    def __str__(self) -> str:
        why = "beyond the end of the mapped file" if self.bus else "not permitted" if self.mapped else "not mapped"
        return f"{self.access} at {self.address:#x}: {why}"


class OutOfMemory(OSError):
    """No room for a mapping."""

    def __init__(self, text: str = "no room in the guest's address space") -> None:
        super().__init__(errno.ENOMEM, text)


Effect = tuple[Any, ...]
Watcher = Callable[[int, int], None]


def page_down(address: int) -> int:
    return address & -PAGE_SIZE


def page_up(address: int) -> int:
    return (address + PAGE_SIZE - 1) & -PAGE_SIZE


def _normal(protection: int) -> int:
    """What the page tables hold for PROT_* bits: no architecture we know has pages writable but not readable."""
    return protection & PROTECTION | (READ if protection & WRITE else 0)


def _host_protection(entry: int) -> int:
    """The host's protection for a page-map byte."""
    if not entry & READ:
        return host.PROT_NONE
    return host.PROT_READ | (host.PROT_WRITE if entry & (WRITE | WATCHED) == WRITE else 0)


def _lacks(bits: int) -> bytes:
    """A translate table: 1 for the page-map bytes without all of `bits`, else 0."""
    return bytes(int(entry & bits != bits) for entry in range(256))


def _keeps(protection: int) -> bytes:
    """A translate table: page-map bytes with their protection replaced, no longer watched."""
    return bytes(entry & ~(PROTECTION | WATCHED) & 0xFF | protection for entry in range(256))


_LACKS = {bits: _lacks(bits) for bits in (READ, WRITE, EXEC, MAPPED)}
_UNREADABLE = _LACKS[READ]
_NOT_READY = bytes(int(entry & (WRITE | WATCHED) != WRITE) for entry in range(256))  # for the host's kernel to write to
_HAS_FILE = bytes(int(bool(entry & FILE)) for entry in range(256))
_KEEPS = [_keeps(protection) for protection in range(8)]
_ACCESS = {READ: "load", WRITE: "store", EXEC: "fetch", MAPPED: "load"}


class AddressSpace:
    """See the module's docstring. Addresses and values are unsigned Python ints; memory is little endian."""

    def __init__(self, size: int = 1 << 38) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(f"size {size:#x} is not a number of pages")
        reserve = host.MAP_PRIVATE | host.MAP_ANONYMOUS | host.MAP_NORESERVE
        pages = size >> PAGE_SHIFT
        start = host.mmap(0, size + 2 * GUARD, host.PROT_NONE, reserve)
        try:
            map_address = host.mmap(0, pages, host.PROT_READ | host.PROT_WRITE, reserve)
        except OSError:
            host.munmap(start, size + 2 * GUARD)
            raise
        self._finalizer = weakref.finalize(self, host.release, ((start, size + 2 * GUARD), (map_address, pages)))
        self.size = size
        self.base = start + GUARD
        self.map_address = map_address  # host address of the page map, for native code
        self.mmap_base = size - min(MMAP_GAP, page_down(size // 4))
        self.watchers: list[Watcher] = []
        self.dirty: set[int] | None = None  # when a set: the numbers of pages written are added
        self.undo: list[tuple[int, bytes]] | None = None  # when a list: CPU stores add what they overwrite
        self.sealed: list[tuple[int, int]] = []  # ranges that system calls may not change; they ask
        self.shares = False  # whether there has been memory that other processes may write to
        self._effects: list[Effect] | None = None
        self._map = memoryview((ctypes.c_ubyte * pages).from_address(map_address)).cast("B")
        self._bytes = memoryview((ctypes.c_ubyte * size).from_address(self.base)).cast("B")
        # Indexed by access size. Typed views are twice as fast as int.from_bytes of a slice.
        self._views: list[Any] = [None] * 9
        self._views[1] = self._bytes
        self._views[2] = self._bytes.cast("H")
        self._views[4] = self._bytes.cast("I")
        self._views[8] = self._bytes.cast("Q")
        self._mappings = Mappings()

    def close(self) -> None:
        """Give the host memory back. Every later access faults."""
        self._map = memoryview(b"")
        self._bytes = memoryview(b"")
        self.size = 0
        self._views = [None] * 9
        self._mappings = Mappings()
        self._finalizer()

    def host_ranges(self) -> list[tuple[int, int]]:
        """The host memory that this is: address and bytes."""
        return [(self.base, self.size), (self.map_address, self.size >> PAGE_SHIFT)]

    # The CPU's side -----------------------------------------------------------------------------------------

    def load(self, address: int, size: int) -> int:
        """The unsigned value of 1, 2, 4 or 8 bytes at `address`."""
        try:
            if self._map[address >> 12] & 33 == 1 and not address % size:  # READ, not FILE, within one page
                return self._views[size][address // size]
        except IndexError:
            pass  # beyond the end: `_need` raises the fault
        if self._short(address, size) & 33 == 1:
            return int.from_bytes(self._bytes[address:address + size], "little")
        self._need(address, size, READ)
        return int.from_bytes(self._copy_out(address, size, "load"), "little")

    def store(self, address: int, size: int, value: int) -> None:
        """Write `value` as 1, 2, 4 or 8 bytes, or nothing at all when any byte is out of bounds."""
        try:
            if (self._map[address >> 12] & 50 == 2  # WRITE, neither WATCHED nor FILE
                    and not address % size and self.dirty is None):
                self._views[size][address // size] = value
                return
        except IndexError:
            pass
        if self.undo is not None:
            self._need(address, size, WRITE)
            self.undo.append((address, self.peek(address, size)))
        if self._short(address, size) & 50 == 2:
            self._bytes[address:address + size] = value.to_bytes(size, "little")
        else:
            self._need(address, size, WRITE)
            self._copy_in(address, value.to_bytes(size, "little"))
        self._note(address, size)

    def modify(self, address: int, size: int, change: Callable[[int], int]) -> int:
        """The value of 4 or 8 aligned bytes, in whose place change(value) is put, with no other access between.

        Other processes' that share the memory, too. `change` is called again if the value has changed meanwhile.
        """
        self._need(address, size, WRITE)
        exchange, place = atomic().exchange[size], self.base + address
        old = self.load(address, size)  # a fault where a mapped file has been cut short
        if self.undo is not None:
            self.undo.append((address, old.to_bytes(size, "little")))
        watched = self._unwatch_range(address, size)
        while (found := exchange(place, old, change(old))) != old:
            old = found
        if self._effects is not None:
            self._effects.append(("write", address, change(old).to_bytes(size, "little")))
        if watched:
            self._tell(address, address + size)
        self._note(address, size)
        return old

    def others_write(self, address: int) -> bool:
        """Whether another process may write to this mapped address at any moment."""
        region = self.region_at(address)
        return region is not None and region.shared

    def fence(self) -> None:
        """All accesses before come before all behind, for processes that share the memory."""
        atomic().fence()

    def fetch(self, address: int) -> int:
        """The 32-bit word at `address` if its low two bits are set, else the 16-bit parcel."""
        try:
            if self._map[address >> 12] & 37 == 5:  # READ and EXEC, not FILE
                if not address & 3:
                    word = self._views[4][address >> 2]
                    return word if word & 3 == 3 else word & 0xFFFF
                view = self._views[2]
                index = address >> 1
                parcel = view[index]
                if parcel & 3 != 3:
                    return parcel
                if address & 0xFFE != 0xFFE:
                    return parcel | view[index + 1] << 16
        except IndexError:
            pass
        self._need(address, 2, EXEC)
        low = int.from_bytes(self._peek(address, 2, "fetch"), "little")
        if low & 3 != 3:
            return low
        self._need(address + 2, 2, EXEC)
        return low | int.from_bytes(self._peek(address + 2, 2, "fetch"), "little") << 16

    # The kernel's and the API's side --------------------------------------------------------------------------

    def check(self, address: int, length: int, protection: int) -> None:
        """Raise MemoryFault unless every byte of the range has each of READ, WRITE, EXEC asked for."""
        for bit in (READ, WRITE, EXEC):
            if protection & bit:
                self._need(address, length, bit)

    def read(self, address: int, length: int) -> bytes:
        """Bytes, as the guest could load them."""
        if self._short(address, length) & 33 == 1:
            return bytes(self._bytes[address:address + length])
        self._need(address, length, READ)
        return self._copy_out(address, length, "load")

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, as the guest could store them; nothing is written unless all of it can be."""
        if self._short(address, len(data)) & 50 == 2:
            self._bytes[address:address + len(data)] = data
        else:
            self._need(address, len(data), WRITE)
            self._copy_in(address, data)
        if self._effects is not None:
            self._effects.append(("write", address, bytes(data)))
        self._note(address, len(data))

    def source(self, address: int, length: int) -> int:
        """The host address of a range that the guest may read, for the host's kernel to read from.

        Nothing of ours may touch it: a mapped file may have been cut short, which only the kernel survives.
        """
        if not self._all(address, length, _UNREADABLE):
            self._need(address, length, READ)
        return self.base + address

    def target(self, address: int, length: int) -> int:
        """The host address of a range that the guest may write, for the host's kernel to write to.

        Translations made from it are dropped at once. `arrived` must be told what was written.
        """
        if not self._all(address, length, _NOT_READY):
            self._need(address, length, WRITE)
            if length > 0 and self._unwatch_range(address, length):
                self._tell(address, address + length)
        return self.base + address

    def arrived(self, address: int, length: int) -> None:
        """The host's kernel has written the first `length` bytes of a target."""
        if self._effects is not None and length > 0:
            self._effects.append(("write", address, self._copy_out(address, length, "load")))
        self._note(address, length)

    def window(self, address: int, length: int) -> memoryview:
        """A source or target as a buffer, for calls that take one."""
        return self._bytes[address:address + length]

    def peek(self, address: int, length: int) -> bytes:
        """Bytes whatever the protection: for debuggers and dumps. The range must be mapped."""
        if self._short(address, length) & 33 == 1:
            return bytes(self._bytes[address:address + length])
        return self._peek(address, length, "load")

    def poke(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes whatever the protection: for loaders and debuggers. The range must be mapped."""
        self._need(address, len(data), MAPPED, "store")
        if not data:
            return
        first, last = address >> PAGE_SHIFT, (address + len(data) - 1) >> PAGE_SHIFT
        with self._opened(first, last, host.PROT_READ | host.PROT_WRITE, "store", address):
            if len(data) >= LARGE:
                start, length = self.base + (first << PAGE_SHIFT), last - first + 1 << PAGE_SHIFT
                host.madvise(start, length, host.MADV_POPULATE_WRITE)
            self._copy_in(address, data)
        if self._effects is not None:
            self._effects.append(("poke", address, bytes(data)))
        self._note(address, len(data))

    def read_cstring(self, address: int, limit: int = 1 << 20) -> bytes:
        """The bytes up to a NUL; OSError ENAMETOOLONG if there is none among the first `limit`."""
        parts: list[bytes] = []
        while limit > 0:
            part = self.read(address, min(PAGE_SIZE - address % PAGE_SIZE, limit))
            end = part.find(0)
            if end >= 0:
                parts.append(part[:end])
                return b"".join(parts)
            parts.append(part)
            address += len(part)
            limit -= len(part)
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))

    def protection(self, address: int) -> int | None:
        """READ | WRITE | EXEC of the page, or None where nothing is mapped."""
        page = address >> PAGE_SHIFT
        entry = self._map[page] if page < len(self._map) else 0
        return entry & PROTECTION if entry & MAPPED else None

    def regions(self) -> list[Region]:
        return list(self._mappings)

    def touched(self, region: Region) -> list[int]:
        """Numbers of the region's pages that the host has backed with memory; of private ones the others are zero."""
        first, count = region.start >> PAGE_SHIFT, region.end - region.start >> PAGE_SHIFT
        if region.shared or region.file:  # others may have written it, or the file holds more
            return list(range(first, first + count))
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            entries = os.pread(pagemap.fileno(), 8 * count, (self.base + region.start >> PAGE_SHIFT) * 8)
        return [first + m.start() for m in _BACKED.finditer(entries[7::8])]

    def changed_since_fork(self) -> list[tuple[int, bytes]]:
        """Of a forked child: runs of private pages that it no longer shares with its parent, if the host can tell."""
        found = []
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            for region in self._mappings:
                if region.shared or not region.protection & WRITE:
                    continue
                first, count = region.start >> PAGE_SHIFT, region.end - region.start >> PAGE_SHIFT
                entries = os.pread(pagemap.fileno(), 8 * count, (self.base + region.start >> PAGE_SHIFT) * 8)
                for run in _OWN.finditer(entries[7::8]):
                    start = first + run.start() << PAGE_SHIFT
                    found.append((start, self.peek(start, run.end() - run.start() << PAGE_SHIFT)))
        return found

    def region_at(self, address: int) -> Region | None:
        return self._mappings.at(address)

    def free(self, length: int) -> int:
        """Where a mapping of this length would go; OutOfMemory."""
        return self._find(page_up(length))

    def is_free(self, start: int, end: int) -> bool:
        """Whether no page of the range is mapped."""
        return self._mappings.is_free(start, end)

    # Mapping ------------------------------------------------------------------------------------------------

    def map(self, address: int, length: int, protection: int, *, fixed: bool = False, noreplace: bool = False,
            fd: int = -1, offset: int = 0, shared: bool = False, reserve: bool = True, name: str = "",
            attached: int = 0) -> int:
        """mmap: returns where. `fd` is a host descriptor, and -1 means anonymous memory.

        `attached` is the address of memory of the host's, as large and protected as what is asked for, that moves here.
        """
        if length <= 0 or offset % PAGE_SIZE or offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        length = page_up(length)
        start = self._place(address, length, fixed, noreplace)
        protection = _normal(protection)
        effect: Effect | None = None
        if self._effects is not None:
            contents = None if fd < 0 else host.bytes_of_file(fd, offset, length)
            if attached:
                contents = ctypes.string_at(attached, length)
            effect = ("map", {"address": start, "length": length, "protection": protection, "shared": shared,
                              "reserve": reserve, "name": name, "data": contents, "file": fd >= 0, "offset": offset})
        replaced_code = self._has_code(start, start + length)
        copied = length
        if attached:
            self._install(start, length, attached)
        elif fd < 0:
            self._host_map_anonymous(start, length, protection, shared, reserve)
        else:
            copied = self._host_map_file(start, length, protection, shared, fd, offset)
        self._fill(start, start + copied, MAPPED | protection)
        self._fill(start + copied, start + length, MAPPED | FILE | protection)
        self._mappings.carve(start, start + length)
        self._insert(Region(start, start + length, protection, name, shared, fd >= 0, offset))
        if effect is not None and self._effects is not None:
            self._effects.append(effect)
        if replaced_code:
            self._tell(start, start + length)
        return start

    def unmap(self, address: int, length: int) -> None:
        """munmap: holes are no error."""
        start, end = self._range(address, length)
        had_code = self._has_code(start, end)
        self._reserve(start, end)
        if self._effects is not None:
            self._effects.append(("unmap", start, end - start))
        if had_code:
            self._tell(start, end)

    def protect(self, address: int, length: int, protection: int) -> None:
        """mprotect: ENOMEM at the first hole, after the pages before it were changed, as Linux does."""
        if length == 0 and address % PAGE_SIZE == 0:
            return
        start, end = self._range(address, length, hole=errno.ENOMEM)
        protection = _normal(protection)
        had_code = self._has_code(start, end)
        reached = start
        try:
            for region in self._mappings.overlapping(start, end):
                if region.start > reached:
                    break
                stop = min(region.end, end)
                self._host_protect(reached, stop, _host_protection(protection))
                pages = slice(reached >> PAGE_SHIFT, stop >> PAGE_SHIFT)
                self._map[pages] = bytes(self._map[pages]).translate(_KEEPS[protection])
                part = cut(region, reached, stop)
                self._mappings.carve(reached, stop)
                self._insert(part._replace(protection=protection))
                reached = stop
        finally:
            if reached > start and self._effects is not None:
                self._effects.append(("protect", start, reached - start, protection))
            if reached > start and had_code:
                self._tell(start, reached)
        if reached < end:
            raise OutOfMemory("the range to protect has a hole")

    def remap(self, old: int, old_length: int, new_length: int, *, may_move: bool = False,
              to: int | None = None) -> int:
        """mremap: returns where the mapping now is. `to` is the address that MREMAP_FIXED asks for."""
        old_length, new_length = page_up(old_length), page_up(new_length)
        if old % PAGE_SIZE or new_length == 0 or old_length == 0 or (to is not None and to % PAGE_SIZE):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if to is not None and (not may_move or max(old, to) < min(old + old_length, to + new_length)):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        region = self.region_at(old)
        if region is None or region.end < old + old_length:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        if to is None and new_length <= old_length:
            if new_length < old_length:
                self.unmap(old + new_length, old_length - new_length)
            return old
        tail = old + old_length
        anonymous = not region.file and not region.shared
        if (to is None and anonymous and old + new_length <= self.size
                and self.is_free(tail, old + new_length)):
            return self._grow(region, tail, old, new_length)
        if to is None and not may_move:
            raise OutOfMemory("the mapping cannot grow where it is")
        if to is not None:
            self._place(to, new_length, True, False)
            self.unmap(to, new_length)
        new = self._find(new_length) if to is None else to
        if new_length < old_length:
            self.unmap(old + new_length, old_length - new_length)
            old_length = new_length
        self._move(region, old, old_length, new, new_length)
        return new

    def discard(self, address: int, length: int) -> None:
        """madvise(MADV_DONTNEED): private anonymous pages read as zero afterwards."""
        start, end = self._range(address, length, hole=errno.ENOMEM)
        reached = start
        for region in self._mappings.overlapping(start, end):
            if region.start > reached:
                break
            reached = min(region.end, end)
            if not region.file and not region.shared:
                low = max(region.start, start)
                if host.madvise(self.base + low, reached - low, host.MADV_DONTNEED):
                    raise host.failed()
                if self._effects is not None:
                    self._effects.append(("discard", low, reached - low))
                self._note(low, reached - low)
                if region.protection & EXEC:
                    self._tell(low, reached)
        if reached < end:
            raise OutOfMemory("the range has a hole")

    def advise(self, address: int, length: int, advice: int) -> None:
        """The host's madvise, for what is one region."""
        if host.madvise(self.base + address, length, advice):
            raise host.failed()
        if advice == host.MADV_REMOVE:  # shared memory reads as zero now
            if self._effects is not None:
                self._effects.append(("poke", address, bytes(length)))
            if self._has_code(address, address + length):
                self._tell(address, address + length)

    def move_in_file(self, address: int, length: int, offset: int, remap: Callable[[int], object]) -> None:
        """Part of one shared mapping of a file shows another part of it. `remap` is given the host address. EINVAL."""
        start, end = self._range(address, length)
        region = self.region_at(start)
        if region is None or region.end < end or not (region.shared and region.file):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.unwatch(start, end)
        remap(self.base + start)
        self._say_offset(region, start, end, offset)
        if self._effects is not None:
            self._effects.append(("moved", start, end - start, offset, self._peek(start, end - start, "load")))
        if region.protection & EXEC:
            self._tell(start, end)

    def _say_offset(self, region: Region, start: int, end: int, offset: int) -> None:
        self._mappings.carve(start, end)
        self._insert(region._replace(start=start, end=end, offset=offset))

    def sync(self, address: int, length: int, flags: int) -> None:
        """msync: holes are ENOMEM, after the rest was written back."""
        start, end = self._range(address, length, hole=errno.ENOMEM)
        reached, hole = start, False
        for region in self._mappings.overlapping(start, end):
            hole = hole or region.start > reached
            reached = min(region.end, end)
            low = max(region.start, start)
            if region.shared and region.file and host.msync(self.base + low, reached - low, flags):
                raise host.failed()
        if hole or reached < end:
            raise OutOfMemory("the range has a hole")

    # Hooks --------------------------------------------------------------------------------------------------

    def watch(self, start: int, end: int) -> None:
        """Translated code was made from these pages: make them read-only on the host until they are written."""
        self._set_watched(start, end, True)

    def unwatch(self, start: int, end: int) -> None:
        """Undo `watch`; for whoever handles a host fault on such a page. Does not call the watchers."""
        self._set_watched(start, end, False)

    @contextmanager
    def record(self) -> Iterator[list[Effect]]:
        """Collect the effects of write, poke, map, unmap, protect, remap, discard and move_in_file, in order.

        Each is a tuple: ("write", address, bytes), ("poke", address, bytes), ("map", keywords),
        ("unmap", address, length), ("protect", address, length, protection),
        ("remap", old, old_length, new, new_length), ("discard", address, length) or
        ("moved", address, length, offset, bytes).
        """
        if self._effects is not None:
            raise RuntimeError("record() is already active on this address space")
        effects: list[Effect] = []
        self._effects = effects
        try:
            yield effects
        finally:
            self._effects = None

    def replay(self, effects: Iterable[Effect]) -> None:
        """Apply what `record` collected elsewhere. A mapping of a file becomes a private copy of its bytes."""
        for kind, *operands in effects:
            if kind == "write":
                self.write(*operands)
            elif kind == "poke":
                self.poke(*operands)
            elif kind == "map":
                self._replay_map(**operands[0])
            elif kind == "unmap":
                self.unmap(*operands)
            elif kind == "protect":
                self.protect(*operands)
            elif kind == "remap":
                old, old_length, new, new_length = operands
                self.remap(old, old_length, new_length, may_move=True, to=None if new == old else new)
            elif kind == "discard":
                self.discard(*operands)
            elif kind == "moved":
                self._replay_moved(*operands)
            else:
                raise ValueError(f"unknown effect {kind!r}")

    def _replay_moved(self, address: int, length: int, offset: int, data: bytes) -> None:
        region = self.region_at(address)
        assert region is not None, f"no mapping at {address:#x}"
        self.poke(address, data)
        self._say_offset(region, address, address + length, offset)

    def _replay_map(self, address: int, length: int, protection: int, shared: bool, reserve: bool, name: str,
                    data: bytes | None, file: bool, offset: int) -> None:
        private = data is not None
        self.map(address, length, protection, fixed=True, shared=shared and not private, reserve=reserve, name=name)
        if data:
            self.poke(address, data)
        if private:  # it is called what it is a copy of
            self._mappings.carve(address, address + length)
            self._insert(Region(address, address + length, protection, name, shared, file, offset))

    # Checks and copies ----------------------------------------------------------------------------------------

    def _short(self, address: int, length: int) -> int:
        """The page-map byte when one page holds the whole range, else 0: the short way for most accesses."""
        if address % PAGE_SIZE + length <= PAGE_SIZE and address < self.size:
            return self._map[address >> PAGE_SHIFT]
        return 0

    def _all(self, address: int, length: int, table: bytes) -> bool:
        """Whether every page of a short range is there, and a translate table has 0 for its byte: the short way."""
        first, last = address >> PAGE_SHIFT, address + length - 1 >> PAGE_SHIFT
        if length <= 0 or last - first > 256 or address + length > self.size:
            return False
        return self._map[first:last + 1].tobytes().translate(table).find(1) < 0

    def _need(self, address: int, length: int, bit: int, access: str = "") -> None:
        """Raise the fault unless each page of the range has `bit`."""
        if length <= 0:
            return
        first = address >> PAGE_SHIFT
        last = (address + length - 1) >> PAGE_SHIFT
        while first <= last:  # in parts: a range may be as large as the guest likes to say
            entries = bytes(self._map[first:min(last + 1, first + _NEED_PAGES)]).translate(_LACKS[bit])
            page = entries.find(1)
            if page >= 0 or not entries:
                break
            first += len(entries)
        else:
            return
        bad = max(address, (first + max(page, 0)) << PAGE_SHIFT)
        mapped = self.protection(bad) is not None
        raise MemoryFault(bad, access or _ACCESS[bit], mapped)

    def _has_code(self, start: int, end: int) -> bool:
        return any(region.protection & EXEC for region in self._mappings.overlapping(start, end))

    def _has_file(self, start: int, end: int) -> bool:
        pages = self._map[start >> PAGE_SHIFT:page_up(end) >> PAGE_SHIFT]
        return 1 in bytes(pages).translate(_HAS_FILE)

    def _copy_out(self, address: int, length: int, access: str) -> bytes:
        if length > 0 and self._has_file(address, address + length):
            buffer = ctypes.create_string_buffer(length)
            self._host_copy(host.vm_readv, address, buffer, length, access)
            return buffer.raw
        return bytes(self._bytes[address:address + length])

    def _copy_in(self, address: int, data: bytes | bytearray | memoryview) -> None:
        length = len(data)
        if length == 0:
            return
        watched = self._unwatch_range(address, length)
        if self._has_file(address, address + length):
            buffer = ctypes.create_string_buffer(bytes(data), length)
            self._host_copy(host.vm_writev, address, buffer, length, "store")
        else:
            self._bytes[address:address + length] = data
        if watched and self.watchers:
            self._tell(address, address + length)

    def _host_copy(self, function: Any, address: int, buffer: Any, length: int, access: str) -> None:
        """Let the host's kernel copy: where a mapped file has been cut short it stops instead of killing us."""
        done = 0
        while done < length:
            local = host.IoVec(ctypes.addressof(buffer) + done, length - done)
            remote = host.IoVec(self.base + address + done, length - done)
            got = function(os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
            if got < 0:
                if ctypes.get_errno() != errno.EFAULT:
                    raise host.failed()
                raise MemoryFault(address + done, access, True, bus=True)
            done += got

    def _peek(self, address: int, length: int, access: str) -> bytes:
        self._need(address, length, MAPPED, access)
        if length <= 0:
            return b""
        first, last = address >> PAGE_SHIFT, (address + length - 1) >> PAGE_SHIFT
        with self._opened(first, last, host.PROT_READ, access, address):
            return self._copy_out(address, length, access)

    @contextmanager
    def _opened(self, first: int, last: int, protection: int, access: str, address: int) -> Iterator[None]:
        """Give ourselves host access to the pages for a moment, if they lack it."""
        entries = bytes(self._map[first:last + 1])
        if all(_host_protection(entry) & protection == protection for entry in set(entries)):
            yield
            return
        start, end = first << PAGE_SHIFT, (last + 1) << PAGE_SHIFT
        try:
            self._host_protect(start, end, protection)
        except OSError as error:  # a shared mapping of a file that was opened for reading only
            self._host_restore(first, last)
            raise MemoryFault(address, access, True) from error
        try:
            yield
        finally:
            self._host_restore(first, last)

    def _host_restore(self, first: int, last: int) -> None:
        """Make the host's protection agree with the page map again."""
        page = first
        for entry, run in groupby(bytes(self._map[first:last + 1])):
            count = len(list(run))
            self._host_protect(page << PAGE_SHIFT, (page + count) << PAGE_SHIFT, _host_protection(entry))
            page += count

    def _note(self, address: int, length: int) -> None:
        """After a write: remember the pages, for whoever wants to know."""
        if self.dirty is not None and length > 0:
            self.dirty.update(range(address >> PAGE_SHIFT, (address + length - 1 >> PAGE_SHIFT) + 1))

    def _unwatch_range(self, address: int, length: int) -> bool:
        first, last = address >> PAGE_SHIFT, (address + length - 1) >> PAGE_SHIFT
        if not any(entry & WATCHED for entry in set(bytes(self._map[first:last + 1]))):
            return False
        self._set_watched(address, address + length, False)
        return True

    def _set_watched(self, start: int, end: int, on: bool) -> None:
        if end <= start:
            return
        first, last = start >> PAGE_SHIFT, (min(end, self.size) - 1) >> PAGE_SHIFT
        for page in range(first, last + 1):
            entry = self._map[page]
            if not entry & MAPPED:
                continue
            changed = entry | WATCHED if on else entry & ~WATCHED
            if changed != entry:
                self._map[page] = changed
                if entry & WRITE:
                    address = page << PAGE_SHIFT
                    self._host_protect(address, address + PAGE_SIZE, _host_protection(changed))

    def _tell(self, start: int, end: int) -> None:
        for watcher in self.watchers:
            watcher(start, end)

    # Placement and host mappings -------------------------------------------------------------------------------

    def _range(self, address: int, length: int, hole: int = errno.EINVAL) -> tuple[int, int]:
        if address % PAGE_SIZE or length <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        end = address + page_up(length)
        if end > self.size:
            raise OSError(hole, os.strerror(hole))
        return address, end

    def _place(self, address: int, length: int, fixed: bool, noreplace: bool) -> int:
        if length > self.size:
            raise OutOfMemory()
        if fixed or noreplace:
            if address % PAGE_SIZE:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if address + length > self.size:
                raise OutOfMemory("the fixed address is beyond the guest's address space")
            if noreplace and not self.is_free(address, address + length):
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            return address
        hint = max(page_up(address), LOWEST) if address else 0
        if hint and hint + length <= self.size and self.is_free(hint, hint + length):
            return hint
        return self._find(length)

    def _find(self, length: int) -> int:
        """The highest free range below the mmap base; above it only when there is none."""
        for low, high in ((LOWEST, self.mmap_base), (self.mmap_base, self.size)):
            found = self._mappings.highest_free(length, low, high)
            if found is not None:
                return found
        raise OutOfMemory()

    def _install(self, start: int, length: int, source: int) -> None:
        """Put a host mapping made elsewhere in place: what was there stays whole if making it had failed."""
        got = host.mremap(source, length, length, host.MREMAP_MAYMOVE | host.MREMAP_FIXED, self.base + start)
        if got == -1:
            error = host.failed()
            host.munmap(source, length)
            raise error

    def _host_map_anonymous(self, start: int, length: int, protection: int, shared: bool, reserve: bool) -> None:
        flags = host.MAP_ANONYMOUS | (host.MAP_SHARED if shared else host.MAP_PRIVATE)
        flags |= 0 if reserve else host.MAP_NORESERVE
        self._install(start, length, host.mmap(0, length, _host_protection(protection), flags))

    def _host_map_file(self, start: int, length: int, protection: int, shared: bool, fd: int,
                       offset: int) -> int:
        """Map a file and return how much of it is memory of our own.

        A small private mapping is read into anonymous memory, so that the hot accessors may touch it: nothing
        that later happens to the file can then raise SIGBUS there. Pages beyond the file's end stay the file's.
        """
        flags = host.MAP_SHARED if shared else host.MAP_PRIVATE
        source = host.mmap(0, length, _host_protection(protection), flags, fd, offset)
        self._install(start, length, source)
        if shared or length > PRIVATE_COPY_LIMIT:
            return 0
        copied, source = host.copy_of_file(fd, offset, length)
        if copied:
            self._install(start, copied, source)
            self._host_protect(start, start + copied, _host_protection(protection))
        return copied

    def _host_protect(self, start: int, end: int, protection: int) -> None:
        if host.mprotect(self.base + start, end - start, protection):
            raise host.failed()

    def _reserve(self, start: int, end: int) -> None:
        """Make a range unmapped: for the guest, and for the host's own allocations too."""
        flags = host.MAP_PRIVATE | host.MAP_ANONYMOUS | host.MAP_NORESERVE | host.MAP_FIXED
        host.mmap(self.base + start, end - start, host.PROT_NONE, flags)
        for region in self._mappings.overlapping(start, end):
            self._fill(max(region.start, start), min(region.end, end), 0)
        self._mappings.carve(start, end)

    def _insert(self, region: Region) -> None:
        self.shares = self.shares or (region.shared and bool(region.protection & WRITE))
        self._mappings.insert(region)

    def _fill(self, start: int, end: int, entry: int) -> None:
        ctypes.memset(self.map_address + (start >> PAGE_SHIFT), entry, (end - start) >> PAGE_SHIFT)

    def _grow(self, region: Region, tail: int, old: int, new_length: int) -> int:
        self._host_map_anonymous(tail, old + new_length - tail, region.protection, False, True)
        self._fill(tail, old + new_length, MAPPED | region.protection)
        self._insert(region._replace(start=tail, end=old + new_length))
        if self._effects is not None:
            self._effects.append(("remap", old, tail - old, old, new_length))
        return old

    def _move(self, region: Region, old: int, old_length: int, new: int, new_length: int) -> None:
        moved = cut(region, old, old + old_length)
        had_code = self._has_code(old, old + old_length)
        entries = bytes(self._map[old >> PAGE_SHIFT:(old + old_length) >> PAGE_SHIFT])
        self.unwatch(old, old + old_length)
        if region.file or region.shared:
            self._host_move(old, old_length, new, new_length, 0)
            entries += bytes([MAPPED | FILE | moved.protection]) * ((new_length - old_length) >> PAGE_SHIFT)
        else:
            # Left mapped, the old range cannot be taken by another host thread before we reserve it again.
            self._host_move(old, old_length, new, old_length, host.MREMAP_DONTUNMAP)
            if new_length > old_length:
                self._host_map_anonymous(new + old_length, new_length - old_length, moved.protection, False, True)
            entries += bytes([MAPPED | moved.protection]) * ((new_length - old_length) >> PAGE_SHIFT)
        self._reserve(old, old + old_length)
        clean = entries.translate(_KEEPS[moved.protection])
        self._map[new >> PAGE_SHIFT:(new + new_length) >> PAGE_SHIFT] = clean
        self._mappings.carve(new, new + new_length)
        self._insert(moved._replace(start=new, end=new + new_length))
        if self._effects is not None:
            self._effects.append(("remap", old, old_length, new, new_length))
        if had_code:
            self._tell(old, old + old_length)

    def _host_move(self, old: int, old_length: int, new: int, new_length: int, flags: int) -> None:
        flags |= host.MREMAP_MAYMOVE | host.MREMAP_FIXED
        if host.mremap(self.base + old, old_length, new_length, flags, self.base + new) != -1:
            return
        error = host.failed()
        if not flags & host.MREMAP_DONTUNMAP:
            raise error
        # The host may hold as several mappings what is one region here, which it does not move at once: copy.
        region = self.region_at(old)
        protection = region.protection if region else 0
        self._host_map_anonymous(new, new_length, READ | WRITE, False, True)
        self._bytes[new:new + old_length] = self.peek(old, old_length)
        self._host_protect(new, new + new_length, _host_protection(protection))
