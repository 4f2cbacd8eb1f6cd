"""ELF64 executables: parse, refuse with one clear sentence, load into an address space, name symbols.

Owns: the file format and every check of it. Must not know: how the program is started (stack, registers),
system calls, or any architecture: what a guest expects of its files comes in as `ElfFacts`.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dbt.host_memory import MADV_POPULATE_WRITE
from dbt.memory import EXEC, LARGE, PAGE_SIZE, READ, WRITE, AddressSpace, page_down, page_up
from ir.records import record

if TYPE_CHECKING:
    from pathlib import Path


class NotRunnable(Exception):
    """The file is there but cannot be run; the message is one sentence that says why, `code` what execve returns."""

    def __init__(self, message: str, code: int = errno.ENOEXEC) -> None:
        super().__init__(message)
        self.code = code


Data = bytes | mmap.mmap
MAGIC = b"\x7fELF"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_PHDR, PT_GNU_EH_FRAME, PT_GNU_STACK = 1, 3, 6, 0x6474E550, 0x6474E551
PF_X, PF_W, PF_R = 1, 2, 4
SHT_SYMTAB, SHT_DYNSYM = 2, 11
SHN_ABS = 0xFFF1  # a symbol that is no address, such as the name of a version
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10

_TYPES = {0: "no file type", 1: "a relocatable object file (not linked)", 4: "a core dump"}
_MACHINES = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S/390", 40: "Arm", 62: "x86-64",
             183: "AArch64", 243: "RISC-V", 247: "BPF", 258: "LoongArch"}
_Header = tuple[int, ...]
_Refuse = Callable[[str], NotRunnable]
LIBRARY = 128 << 10  # bytes of code of a program that has a C library: glibc has three times as many, musl some 30 KiB
_LONGEST_PATH = 4096
_HEAD = 256  # bytes that tell what a file is (Linux, BINPRM_BUF_SIZE)
_MAX_PROGRAM_HEADERS = 65536 // PROGRAM_HEADER.size  # what Linux accepts


class ElfFacts(Protocol):
    """What a guest architecture expects of its files; a module such as `guests.riscv.linux` is one."""

    @property
    def ELF_MACHINE(self) -> int: ...
    @property
    def CODE_ALIGNMENT(self) -> int: ...
    @property
    def ELF_REFUSED_FLAGS(self) -> tuple[tuple[int, int, str], ...]: ...  # mask, value, what it means


@record(frozen=True)
class Segment:
    """A PT_LOAD program header; `protection` in the bits of `dbt.memory`."""

    address: int
    size: int
    offset: int
    file_size: int
    protection: int
    physical: int = 0  # where it goes in a machine

    @property
    def end(self) -> int:
        return self.address + self.size


class Symbol(NamedTuple):
    address: int
    size: int
    name: str


@record(frozen=True)
class Image:
    """A parsed and checked executable. Addresses are the file's own; `load` adds the bias."""

    name: str
    data: Data
    position_independent: bool
    entry: int
    flags: int
    segments: tuple[Segment, ...]  # in address order
    phdr_address: int  # of the program headers in memory, 0 if no segment holds them
    phnum: int
    executable_stack: bool
    interpreter: bytes = b""  # of a dynamic program, the path of its loader
    frame_header: int = 0  # the address of .eh_frame_hdr, 0 if there is none

    @property
    def size(self) -> int:
        """Bytes from the first page to the last one's end."""
        return page_up(self.segments[-1].end) - page_down(self.segments[0].address)

    @property
    def has_library(self) -> bool:
        """Whether a large C library is in it or is loaded for it, which executes ten thousand instructions to begin."""
        code = sum(segment.file_size for segment in self.segments if segment.protection & EXEC)
        return bool(self.interpreter) or code >= LIBRARY

    @cached_property
    def _symbols(self) -> list[Symbol]:
        return _read_symbols(self.data)

    def symbols(self) -> list[Symbol]:
        """Functions and objects by address, unbiased; none when the table is stripped or damaged."""
        return self._symbols


@record(frozen=True)
class Loaded:
    """Where an image ended up."""

    image: Image
    bias: int
    entry: int
    phdr_address: int
    phnum: int
    start: int
    end: int
    brk_start: int


def open_image(path: str | Path, facts: ElfFacts) -> Image:
    """Read and parse a file. FileNotFoundError if there is none, NotRunnable for anything else wrong."""
    path = os.fspath(path)
    return parse(contents(path)[0], facts, path)


def contents(path: str) -> tuple[Data, int]:
    """The bytes of an ELF file, or the first ones of another, and its mode; raises as `open_image` does."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise NotRunnable(f"{path}: is a directory", errno.EACCES)
        if not stat.S_ISREG(mode):
            raise NotRunnable(f"{path}: is not a regular file", errno.EACCES)
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD)
            if not head.startswith(MAGIC):
                return head, mode
            size = os.fstat(file.fileno()).st_size
            if size >= LARGE:
                return _contents_at_once(file.fileno(), size), mode
            file.seek(0)
            return file.readall(), mode
    except FileNotFoundError:
        raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise NotRunnable(f"{path}: {why}", error.errno or errno.ENOEXEC) from error


def _contents_at_once(descriptor: int, size: int) -> Data:
    """All bytes of a file, in memory whose pages are made at once and not by a fault each."""
    data = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for advice in (mmap.MADV_HUGEPAGE, MADV_POPULATE_WRITE):
        with suppress(OSError):  # of an older kernel
            data.madvise(advice)
    done = 0
    with memoryview(data) as view:
        while done < size and (part := os.preadv(descriptor, [view[done:]], done)):
            done += part
    return data if done == size else data[:done]  # it was cut short just now


def parse(data: Data, facts: ElfFacts, name: str = "image") -> Image:
    """Check everything that loading relies on."""
    def refuse(why: str) -> NotRunnable:
        return NotRunnable(f"{name}: {why}")

    if data[:4] != MAGIC:
        raise refuse("is empty" if not data else "is not an ELF file")
    if len(data) < HEADER.size:
        raise refuse(f"the ELF header is truncated ({len(data)} of {HEADER.size} bytes)")
    (ident, kind, machine, version, entry, phoff, _shoff, flags, _ehsize, phentsize, phnum, _shentsize, _shnum,
     _shstrndx) = HEADER.unpack_from(data)
    if ident[4] != 2:
        raise refuse("is a 32-bit ELF file, and only 64-bit programs run" if ident[4] == 1
                     else f"has the unknown ELF class {ident[4]}")
    if ident[5] != 1:
        raise refuse("is a big-endian ELF file, and only little-endian programs run" if ident[5] == 2
                     else f"has the unknown ELF data encoding {ident[5]}")
    if ident[6] != 1 or version != 1:
        raise refuse("has an unknown ELF version")
    if machine != facts.ELF_MACHINE:
        raise refuse(f"is for {_machine(machine)}, and this guest is {_machine(facts.ELF_MACHINE)}")
    if kind not in (ET_EXEC, ET_DYN):
        raise refuse(f"is not an executable: it is {_TYPES.get(kind, f'of ELF type {kind}')}")
    for mask, value, meaning in facts.ELF_REFUSED_FLAGS:
        if flags & mask == value:
            raise refuse(f"is built for {meaning}, which is not supported")
    if phnum == 0:
        raise refuse("has no program headers")
    if phentsize != PROGRAM_HEADER.size or phnum > _MAX_PROGRAM_HEADERS:
        raise refuse(f"has program headers of a wrong size or number ({phnum} of {phentsize} bytes)")
    if phoff + phnum * phentsize > len(data):
        raise refuse("the program headers are truncated")
    headers = [PROGRAM_HEADER.unpack_from(data, phoff + index * phentsize) for index in range(phnum)]
    segments = _segments(data, headers, refuse)
    _check_entry(entry, segments, facts.CODE_ALIGNMENT, refuse)
    stack_flags = next((header[1] for header in headers if header[0] == PT_GNU_STACK), 0)
    frame_header = next((header[3] for header in headers if header[0] == PT_GNU_EH_FRAME), 0)
    return Image(name=name, data=data, position_independent=kind == ET_DYN, entry=entry, flags=flags,
                 segments=segments, phdr_address=_phdr_address(headers, segments, phoff), phnum=phnum,
                 executable_stack=bool(stack_flags & PF_X), interpreter=_interpreter(data, headers, refuse),
                 frame_header=frame_header)


def load(space: AddressSpace, image: Image, bias: int = 0) -> Loaded:
    """Map and fill the segments. `bias` is where a position-independent image goes."""
    if bias % PAGE_SIZE or (bias and not image.position_independent):
        raise ValueError(f"bias {bias:#x} for {image.name}")
    start = page_down(image.segments[0].address) + bias
    end = page_up(image.segments[-1].end) + bias
    if end > space.size:
        raise NotRunnable(f"{image.name}: a segment ends at {image.segments[-1].end + bias:#x}, "
                          f"beyond the guest's address space")
    for low, high, protection in _page_runs(image.segments):
        try:
            space.map(low + bias, high - low, protection, fixed=True, noreplace=True, name=image.name)
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise NotRunnable(f"{image.name}: its segment at {low + bias:#x} is where something "
                                  f"else is mapped") from error
            raise NotRunnable(f"{image.name}: its segments need more memory than the host gives "
                              f"({end - start:,} bytes)") from error
    view = memoryview(image.data)
    for segment in image.segments:
        space.poke(segment.address + bias, view[segment.offset:segment.offset + segment.file_size])
    phdr_address = image.phdr_address + bias if image.phdr_address else 0
    return Loaded(image, bias, image.entry + bias, phdr_address, image.phnum, start, end, brk_start=end)


def _machine(number: int) -> str:
    return _MACHINES.get(number, f"ELF machine {number}")


def _interpreter(data: Data, headers: list[_Header], refuse: _Refuse) -> bytes:
    for kind, _flags, offset, _vaddr, _paddr, file_size, _memory_size, _align in headers:
        if kind == PT_INTERP:
            path, end, rest = data[offset:offset + file_size].partition(b"\0")
            if not path or not end or rest or file_size > _LONGEST_PATH:
                raise refuse("names its loader in a damaged header (PT_INTERP)")
            return path
    return b""


def _segments(data: Data, headers: list[_Header], refuse: _Refuse) -> tuple[Segment, ...]:
    found = []
    for kind, flags, offset, address, physical, file_size, memory_size, _align in headers:
        if kind != PT_LOAD or memory_size == 0 == file_size:
            continue
        if file_size > memory_size:
            raise refuse(f"the segment at {address:#x} has more bytes in the file than in memory")
        if offset + file_size > len(data):
            raise refuse(f"the segment at {address:#x} is truncated: it ends beyond the end of the file")
        if address + memory_size > 1 << 64:
            raise refuse(f"the segment at {address:#x} ends beyond the address space")
        protection = ((READ if flags & PF_R else 0) | (WRITE if flags & PF_W else 0)
                      | (EXEC if flags & PF_X else 0))
        found.append(Segment(address, memory_size, offset, file_size, protection, physical))
    if not found:
        raise refuse("has nothing to load (no PT_LOAD segment)")
    found.sort(key=lambda segment: segment.address)
    for low, high in itertools.pairwise(found):
        if low.end > high.address:
            raise refuse(f"the segments at {low.address:#x} and {high.address:#x} overlap")
    return tuple(found)


def _check_entry(entry: int, segments: tuple[Segment, ...], alignment: int, refuse: _Refuse) -> None:
    if entry % alignment:
        raise refuse(f"the entry point {entry:#x} is not aligned to {alignment} bytes")
    if not any(segment.address <= entry < segment.end for segment in segments):
        raise refuse(f"the entry point {entry:#x} is in no segment")


def _phdr_address(headers: list[_Header], segments: tuple[Segment, ...], phoff: int) -> int:
    """As Linux: what PT_PHDR says, else the address of the segment that holds them."""
    for header in headers:
        if header[0] == PT_PHDR:
            return header[3]
    for segment in segments:
        if segment.offset <= phoff < segment.offset + segment.file_size:
            return segment.address + phoff - segment.offset
    return 0


def _page_runs(segments: tuple[Segment, ...]) -> list[tuple[int, int, int]]:
    """(start, end, protection) in whole pages; a page that two segments share gets the rights of both."""
    runs: list[tuple[int, int, int]] = []
    for segment in segments:
        low, high = page_down(segment.address), page_up(segment.end)
        if runs and runs[-1][1] > low:
            before_low, before_high, before = runs.pop()
            if before_low < low:
                runs.append((before_low, low, before))
            runs.append((low, before_high, before | segment.protection))
            low = before_high
        if low < high:
            runs.append((low, high, segment.protection))
    return runs


def _read_symbols(data: Data) -> list[Symbol]:
    try:
        return _symbols_of(data, SHT_SYMTAB) or _symbols_of(data, SHT_DYNSYM)
    except (struct.error, IndexError, OverflowError):
        return []  # a damaged table costs names, never the run


def _symbols_of(data: Data, wanted: int) -> list[Symbol]:
    header = HEADER.unpack_from(data)
    shoff, shentsize, shnum = header[6], header[11], header[12]
    if shoff == 0 or shentsize != SECTION_HEADER.size:
        return []
    sections = [SECTION_HEADER.unpack_from(data, shoff + index * shentsize) for index in range(shnum)]
    found: set[Symbol] = set()
    for section in sections:
        if section[1] != wanted or section[9] != SYMBOL.size:
            continue
        strings = sections[section[6]]
        names = data[strings[4]:strings[4] + strings[5]]
        table = data[section[4]:section[4] + section[5]]
        for name, info, _other, shndx, value, size in SYMBOL.iter_unpack(table[:len(table) // 24 * 24]):
            if shndx not in (0, SHN_ABS) and name and info & 15 in (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC):
                text = names[name:names.find(b"\0", name)].decode("utf-8", "replace")
                if text and not text.startswith("$"):  # mapping symbols ($x, $d) name no code
                    found.add(Symbol(value, size, text))
    return sorted(found)
