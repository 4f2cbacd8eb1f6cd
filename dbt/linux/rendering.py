"""System calls as text: what an argument word means to a reader, as Linux's strace writes it.

Owns: `Renderer`, the words for each kind of parameter. Must not know: which call has which parameters
(dbt.linux.signatures), values of names (the architecture's data), where lines go (dbt.linux.strace).

Guest memory is only read, and where it cannot be read the pointer is shown.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dbt.linux.abi import Abi, layout
from dbt.linux.host import int32, int64
from dbt.linux.signatures import CHOICES, OPTIONAL, STRUCTURES, Parameter, Signature, parameter
from dbt.memory import AddressSpace, MemoryFault

_AT_FDCWD = -100
_MANY = 32  # elements of an array that are shown
_INFINITY = (1 << 64) - 1
_ESCAPES = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_RESTARTS = {  # what a call gives within the kernel that a signal has interrupted (include/linux/errno.h)
    512: "ERESTARTSYS (To be restarted if SA_RESTART is set)", 513: "ERESTARTNOINTR (To be restarted)",
    514: "ERESTARTNOHAND (To be restarted if no handler)", 516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}  # fmt: skip
_FAULTS = (4, 5, 7, 8, 11)  # signals whose siginfo has an address


def error(result: int) -> str:
    """The name of the error that a result from -4095 to -1 stands for, "" for one without a name."""
    return errno.errorcode.get(-result, "")


def outcome(result: int) -> str:
    """A signed result as strace shows it."""
    if not -4096 < result < 0:
        return str(result)
    if -result in _RESTARTS:
        return f"? {_RESTARTS[-result]}"
    name = error(result)
    return f"-1 {name} ({os.strerror(-result)})" if name else f"-1 (errno {-result})"


class Renderer:
    """The arguments of calls as text. `strings` is how many bytes of a buffer are shown."""

    def __init__(self, space: AddressSpace, abi: Abi, strings: int = 32) -> None:
        self._space = space
        self._abi = abi
        self._strings = strings
        names = abi.names()
        self._flags, self._fields, self._types = names.FLAGS, names.FIELDS, names.FILE_TYPES
        self._numbers = {kind: {number: name for name, number in table.items()}
                         for kind, table in names.NUMBERS.items()}

    # Calls ------------------------------------------------------------------------------------------------

    def before(self, signature: Signature, words: Sequence[int]) -> list[str | None]:
        """Arguments as they are before the call; None for what the call is to write."""
        return [self._argument(each, word, words, 0) if each.reads else None
                for each, word in zip(self._parameters(signature, words), words)]

    def after(self, signature: Signature, words: Sequence[int], shown: Sequence[str | None], result: int) -> list[str]:
        """Arguments as they are after a call with this signed result, from what `before` gave."""
        failed = -4096 < result < 0
        found = []
        for each, word, text in zip(self._parameters(signature, words), words, shown):
            if not each.kind or (each.kind in OPTIONAL and not self._there(each.kind, words)):
                continue
            written = self._argument(each, word, words, result) if each.writes and not failed else None
            if text is None:
                text = written or pointer(word)
            elif written is not None and written != text:
                number = each.kind in ("u32", "u64") and not each.length
                text = f"{text[:-1]} => {written[1:]}" if number else f"{text} => {written}"
            found.append(text)
        return found

    def result(self, signature: Signature, result: int) -> str:
        """What a call returned."""
        if -4096 < result < 0:
            return outcome(result)
        return self.word(signature.result.kind, result & _INFINITY)

    def word(self, kind: str, word: int) -> str:
        """A register's value as what it is said to be."""
        if kind.startswith("flags:"):
            return self.flags(kind[6:], word & 0xFFFFFFFF)
        if kind.startswith("name:"):
            return self.name(kind[5:], word)
        return _WORDS[kind](self, word) if kind in _WORDS else pointer(word)

    def flags(self, kind: str, word: int) -> str:
        """A|B|0x100, by the names of a set."""
        table, field = self._flags[kind], self._fields.get(kind, 0)
        parts, left = [], word
        if field:
            left &= ~field
            number = word & field
            parts += [name for name, value in table.items() if value == number] or ([hex(number)] if number else [])
        for name, value in sorted(table.items(), key=lambda item: -item[1].bit_count()):
            if value & ~field and left & value == value:
                parts.append(name)
                left &= ~value
        if left:
            parts.append(hex(left))
        order = {name: index for index, name in enumerate(table)}
        parts.sort(key=lambda part: order.get(part, len(order)))
        return "|".join(parts) or next((name for name, value in table.items() if value == 0), "0")

    def name(self, kind: str, word: int) -> str:
        """The name of a number, or the number."""
        number = int32(word)
        found = self._numbers[kind].get(number, self._numbers[kind].get(number & 0xFFFFFFFF))
        if found is None and kind == "signal" and 32 <= number <= 64:
            return "SIGRTMIN" if number == 32 else f"SIGRT_{number - 32}"
        return found if found is not None else str(number) if -4096 < number < 4096 else hex(number & 0xFFFFFFFF)

    def signals(self, mask: int) -> str:
        """A signal set: [INT USR1], or ~[KILL STOP] when more are in it than not."""
        full = _INFINITY
        inverse = mask.bit_count() > 32
        bits = ~mask & full if inverse else mask
        inside = [self.name("signal", number).removeprefix("SIG") for number in range(1, 65) if bits >> number - 1 & 1]
        return f"{'~' if inverse else ''}[{' '.join(inside)}]"

    def siginfo(self, data: bytes) -> str:
        """The first 32 bytes of a siginfo of the guest's."""
        number, code_errno, code = struct.unpack_from("<iii", data)
        fields = [f"si_signo={self.name('signal', number)}"]
        if code_errno:
            fields.append(f"si_errno={code_errno}")
        fields.append(f"si_code={self.name('si_code', code)}")
        if number in _FAULTS and code > 0:
            fields.append(f"si_addr={pointer(struct.unpack_from('<Q', data, 16)[0])}")
        else:
            sender, user = struct.unpack_from("<iI", data, 16)
            fields += [f"si_pid={sender}", f"si_uid={user}"]
        return f"{{{', '.join(fields)}}}"

    # Arguments --------------------------------------------------------------------------------------------

    def _parameters(self, signature: Signature, words: Sequence[int]) -> Iterable[Parameter]:
        """The parameters, with those decided that depend on others."""
        for each in signature.parameters:
            if each.kind in CHOICES:
                index, names, kinds, default = CHOICES[each.kind]
                each = parameter(kinds.get(self.name(names, words[index]), default))
            elif each.length.isdigit() and signature.parameters[int(each.length)].kind == "u32":
                each = each._replace(length=f"@{each.length}")  # the count itself is behind a pointer
            yield each

    def _there(self, kind: str, words: Sequence[int]) -> bool:
        """Whether an optional argument is there, as the flags say that are given with it."""
        index, flags, names = OPTIONAL[kind]
        return any(words[index] & self._flags[flags][name] for name in names)

    def _argument(self, each: Parameter, word: int, words: Sequence[int], result: int) -> str:
        """One argument; `result` bounds what a call has written."""
        kind = each.kind
        if kind in _POINTED or kind in self._abi.STRUCTS:
            if word == 0:
                return "NULL"
            try:
                return self._pointed(kind, word, self._count(each, words, result), result if each.writes else None)
            except (MemoryFault, OSError, struct.error):
                return pointer(word)
        return self.word(kind, word)

    def _count(self, each: Parameter, words: Sequence[int], result: int) -> int | None:
        """How many elements or bytes an argument has; None: one."""
        if not each.length:
            return None
        if each.length == "r":
            return result
        if each.length[0] == "#":
            return int(each.length[1:])
        if each.length[0] == "@":
            return self._number(words[int(each.length[1:])], 4)
        return words[int(each.length)]

    def _pointed(self, kind: str, address: int, count: int | None, written: int | None) -> str:
        if kind in _POINTED:
            return _POINTED[kind](self, address, count, written)
        if count is None:
            return self.structure(kind, self._space.read(address, layout(self._abi, kind).size))
        size = layout(self._abi, kind).size
        return _array([self.structure(kind, self._space.read(address + index * size, size))
                       for index in range(min(count, _MANY))], count)

    def structure(self, kind: str, data: bytes) -> str:
        """{name=value, ...}"""
        values = layout(self._abi, kind).unpack(data)
        fields = STRUCTURES.get(kind, "").split() or [f"{name}:" for name in values]
        parts = []
        for field in fields:
            if field == "...":
                parts.append(field)
                continue
            names, _, how = field.partition(":")
            name, _, shown = names.partition("/")
            parts.append(f"{shown or name}={self._field(how, values[name])}")
        return f"{{{', '.join(parts)}}}"

    def _field(self, how: str, value: Any) -> str:
        if isinstance(value, bytes):
            return quoted(value.split(b"\0")[0], self._strings)
        if isinstance(value, tuple):
            return _array([str(each) for each in value], len(value))
        return self.word(how, value & _INFINITY) if how else str(value)

    # Memory -----------------------------------------------------------------------------------------------

    def _number(self, address: int, size: int) -> int:
        return int.from_bytes(self._space.read(address, size), "little")

    def _path(self, address: int, count: int | None, written: int | None) -> str:
        return quoted(self._space.read_cstring(address, 4096), 4096)

    def _string(self, address: int, count: int | None, written: int | None) -> str:
        return quoted(self._space.read_cstring(address, 4096), self._strings)

    def _bytes(self, address: int, count: int | None, written: int | None) -> str:
        length = count or 0
        return quoted(self._space.read(address, min(length, self._strings)), self._strings, length)

    def _integers(self, address: int, count: int | None, size: int) -> str:
        if count is None:
            return f"[{self._number(address, size)}]"
        return _array([str(self._number(address + index * size, size)) for index in range(min(count, _MANY))], count)

    def _pair(self, address: int, count: int | None, written: int | None) -> str:
        return str(list(struct.unpack("<ii", self._space.read(address, 8))))

    def _pointers(self, address: int) -> tuple[list[int], int]:
        """The first of the pointers in an array that a null pointer ends, and how many there are (of 4096 at most)."""
        first: list[int] = []
        for count in range(4096):
            value = self._number(address + 8 * count, 8)
            if not value:
                return first, count
            if count < _MANY:
                first.append(value)
        return first, 4096

    def _texts(self, address: int, count: int | None, written: int | None) -> str:
        first, total = self._pointers(address)
        return _array([self._string(each, None, None) for each in first], total)

    def _environment(self, address: int, count: int | None, written: int | None) -> str:
        total = self._pointers(address)[1]
        return f"{pointer(address)} /* {total} var{'s' if total != 1 else ''} */"

    def _iovec(self, address: int, count: int | None, written: int | None) -> str:
        """Buffers, each with its content: all of it before a call, and as much as was written behind one."""
        left = _INFINITY if written is None else written
        parts = []
        for index in range(min(count or 0, _MANY)):
            base, length = struct.unpack("<QQ", self._space.read(address + 16 * index, 16))
            held = min(left, length)
            left -= held
            try:
                content = self._bytes(base, held, None) if base else "NULL"
            except MemoryFault:
                content = pointer(base)
            parts.append(f"{{iov_base={content}, iov_len={length}}}")
        return _array(parts, count or 0)

    def _msghdr(self, address: int, count: int | None, written: int | None) -> str:
        name, name_size, vectors, length, control, control_size, flags = struct.unpack(
            "<QI4xQQQQi", self._space.read(address, 52))
        parts = [f"msg_name={self._sockaddr(name, name_size, None) if name else 'NULL'}", f"msg_namelen={name_size}",
                 f"msg_iov={self._iovec(vectors, length, written)}", f"msg_iovlen={length}"]
        if control:
            parts.append(f"msg_control={pointer(control)}")
        parts += [f"msg_controllen={control_size}", f"msg_flags={self.flags('msg', flags & 0xFFFFFFFF)}"]
        return f"{{{', '.join(parts)}}}"

    def _sockaddr(self, address: int, count: int | None, written: int | None) -> str:
        data = self._space.read(address, min(count or 0, 128))
        if len(data) < 2:
            return pointer(address)
        family = int.from_bytes(data[:2], "little")
        head = f"sa_family={self.name('family', family)}"
        if family == socket.AF_UNIX:
            path = data[2:]
            if path[:1] == b"\0" and len(path) > 1:
                return f"{{{head}, sun_path=@{quoted(path[1:], 108)}}}"
            return f"{{{head}, sun_path={quoted(path.split(bytes(1))[0], 108)}}}" if path else f"{{{head}}}"
        if family == socket.AF_INET and len(data) >= 8:
            port, host = int.from_bytes(data[2:4], "big"), socket.inet_ntoa(data[4:8])
            return f'{{{head}, sin_port=htons({port}), sin_addr=inet_addr("{host}")}}'
        if family == socket.AF_INET6 and len(data) >= 24:
            port, host = int.from_bytes(data[2:4], "big"), socket.inet_ntop(socket.AF_INET6, data[8:24])
            return f'{{{head}, sin6_port=htons({port}), sin6_addr="{host}"}}'
        return f"{{{head}, sa_data={quoted(data[2:], self._strings)}}}"

    def _option(self, address: int, count: int | None, written: int | None) -> str:
        return self._integers(address, None, 4) if count == 4 else self._bytes(address, count, written)

    def _directory(self, address: int, count: int | None, written: int | None) -> str:
        data = self._space.read(address, count or 0)
        entries = at = 0
        while at + 18 <= len(data):
            entries += 1
            at += max(struct.unpack_from("<H", data, at + 16)[0], 19)
        return f"{pointer(address)} /* {entries} entr{'ies' if entries != 1 else 'y'} */"

    def _bits(self, address: int, size: int) -> str:
        """The numbers of the bits in so many bytes."""
        bits = self._number(address, min(size, 128))
        return f"[{' '.join(str(number) for number in range(bits.bit_length()) if bits >> number & 1)}]"

    def _fdset(self, address: int, count: int | None, written: int | None) -> str:
        return self._bits(address, (max(int32(count or 0), 0) + 63) // 64 * 8)

    def _processors(self, address: int, count: int | None, written: int | None) -> str:
        return self._bits(address, count or 0)

    def _sigset(self, address: int, count: int | None, written: int | None) -> str:
        return self.signals(self._number(address, 8)) if count == 8 else pointer(address)

    def _siginfo(self, address: int, count: int | None, written: int | None) -> str:
        return self.siginfo(self._space.read(address, 32))

    def _status(self, address: int, count: int | None, written: int | None) -> str:
        status = self._number(address, 4)
        if os.WIFEXITED(status):
            return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {os.WEXITSTATUS(status)}}}]"
        if os.WIFSIGNALED(status):
            core = " && WCOREDUMP(s)" if os.WCOREDUMP(status) else ""
            return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {self.name('signal', os.WTERMSIG(status))}{core}}}]"
        if os.WIFSTOPPED(status):
            return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {self.name('signal', os.WSTOPSIG(status))}}}]"
        return "[{WIFCONTINUED(s)}]" if os.WIFCONTINUED(status) else f"[{status:#x}]"

    # Words ------------------------------------------------------------------------------------------------

    def _mode(self, word: int) -> str:
        kind = word & 0o170000
        named = next((name for name, value in self._types.items() if value == kind), "")
        rest = octal(word & 0o7777)
        return f"{named}|{rest}" if named else octal(word & 0o177777)

    def _handler(self, word: int) -> str:
        return self.name("handler", word) if word < 2 else pointer(word)

    def _clone(self, word: int) -> str:
        """The flags of clone, and in their low byte the signal that tells of the end."""
        parts = [self.flags("clone", word & 0xFFFFFF00)] if word & 0xFFFFFF00 else []
        if word & 0xFF:
            parts.append(self.name("signal", word & 0xFF))
        return "|".join(parts) or "0"


def pointer(word: int) -> str:
    return f"{word:#x}" if word else "NULL"


def octal(word: int) -> str:
    return f"0{word & 0xFFFFFFFF:o}".zfill(3)


def quoted(data: bytes, limit: int, length: int | None = None) -> str:
    """Bytes in quotes as C writes them, the first `limit` of `length` of them."""
    length = len(data) if length is None else length
    data = data[:limit]
    parts = []
    for index, byte in enumerate(data):
        if byte in _ESCAPES:
            parts.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            parts.append(chr(byte))
        else:
            digit = 0x30 <= int.from_bytes(data[index + 1:index + 2]) < 0x38  # it would be read as one of the number's
            parts.append(f"\\{byte:03o}" if digit else f"\\{byte:o}")
    return f'"{"".join(parts)}"{"..." if length > limit else ""}'


def _array(parts: Sequence[str], count: int) -> str:
    return f"[{', '.join([*parts, *(['...'] if count > len(parts) else [])])}]"


def _limit(word: int) -> str:
    if word == _INFINITY:
        return "RLIM64_INFINITY"
    return f"{word // 1024}*1024" if word and word % 1024 == 0 else str(word)


def _device(word: int) -> str:
    return f"makedev({os.major(word):#x}, {os.minor(word):#x})"


_WORDS: dict[str, Callable[[Renderer, int], str]] = {
    "fd": lambda r, word: str(int32(word)), "pid": lambda r, word: str(int32(word)),
    "int": lambda r, word: str(int32(word)), "uint": lambda r, word: str(word & 0xFFFFFFFF),
    "long": lambda r, word: str(int64(word)), "size": lambda r, word: str(word),
    "dirfd": lambda r, word: "AT_FDCWD" if int32(word) == _AT_FDCWD else str(int32(word)),
    "id": lambda r, word: str(-1 if word & 0xFFFFFFFF == 0xFFFFFFFF else word & 0xFFFFFFFF),
    "hex": lambda r, word: f"{word:#x}" if word else "0", "octal": lambda r, word: octal(word),
    "creation": lambda r, word: octal(word), "target": lambda r, word: pointer(word), "mode": Renderer._mode,
    "limit": lambda r, word: _limit(word), "device": lambda r, word: _device(word), "handler": Renderer._handler,
    "clone": Renderer._clone,
    "union": lambda r, word: f"{{u32={word & 0xFFFFFFFF}, u64={word}}}",
    "signals": Renderer.signals, "text": lambda r, word: str(word),
}  # fmt: skip
_POINTED: dict[str, Callable[[Renderer, int, int | None, int | None], str]] = {
    "path": Renderer._path, "string": Renderer._string, "bytes": Renderer._bytes, "strings": Renderer._texts,
    "environment": Renderer._environment, "iovec": Renderer._iovec, "msghdr": Renderer._msghdr,
    "sockaddr": Renderer._sockaddr, "option": Renderer._option, "directory": Renderer._directory,
    "fdset": Renderer._fdset, "processors": Renderer._processors, "sigset": Renderer._sigset,
    "siginfo": Renderer._siginfo, "status": Renderer._status, "pair": Renderer._pair,
    "u32": lambda r, address, count, written: r._integers(address, count, 4),
    "u64": lambda r, address, count, written: r._integers(address, count, 8),
    "pointers": lambda r, address, count, written: f"[{pointer(r._number(address, 8))}]",
}  # fmt: skip
