"""System calls on sockets. Families, option numbers and option values are the same on every host we have.

Owns: addresses (paths of the unix family follow the sysroot rule), messages and their control data, in which
descriptors and process numbers are translated both ways. Must not know: files, waiting for several descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbt.linux import host, vectors
from dbt.linux.host import failure, int32
from dbt.linux.vectors import Vectors

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_AF_UNIX = 1
_UNIX_PATH = 108  # bytes of sun_path
_ADDRESS_SIZE = 128  # of struct sockaddr_storage
_SOCK_CLOEXEC, _SOCK_NONBLOCK = 0o2000000, 0o4000
_MSG_DONTWAIT, _MSG_CTRUNC, _MSG_NOSIGNAL = 0x40, 0x8, 0x4000
_MSG_WAITFORONE, _MSG_CMSG_CLOEXEC = 0x10000, 0x40000000
_MAX_CONTROL, _MAX_OPTION, _MAX_LENGTH = 1 << 17, 1 << 16, 0x7FFFF000
_SOL_SOCKET = 1
_SCM_RIGHTS, _SCM_CREDENTIALS, _SCM_PIDFD = 1, 2, 4
_SO_PEERCRED, _SO_ATTACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF, _SO_PEERPIDFD = 17, 26, 51, 77
_SO_ATTACH_BPF, _SO_ATTACH_REUSEPORT_EBPF = 50, 52
_SIGPIPE = 13


# Addresses --------------------------------------------------------------------------------------------------------


@contextmanager
def _host_address(kernel: Kernel, address: int, length: int) -> Iterator[tuple[bytes | None, int]]:
    """The guest's socket address as the host's, and its length; EINVAL, EFAULT."""
    length = int32(length)
    if not 0 <= length <= _ADDRESS_SIZE:
        raise failure(errno.EINVAL)
    data = kernel.space.read(address, length) if address else None
    opened = -1
    try:
        if data is not None and length > 2 and data[:2] == struct.pack("=H", _AF_UNIX) and data[2]:
            path = kernel.at(host.AT_FDCWD, data[2:].split(b"\0")[0])[1]
            if len(path) > _UNIX_PATH and len(data) <= _UNIX_PATH + 2:  # longer only because of the sysroot
                folder, _, name = path.rpartition(b"/")
                opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                path = b"/proc/self/fd/%d/%s" % (opened, name)
            data = data[:2] + path + (b"\0" if len(path) < _UNIX_PATH else b"")
        yield data, 0 if data is None else len(data)
    finally:
        if opened >= 0:
            os.close(opened)


class _Room:
    """Where the host puts an address."""

    def __init__(self) -> None:
        self.address = ctypes.create_string_buffer(_ADDRESS_SIZE)
        self.length = ctypes.c_uint32(_ADDRESS_SIZE)
        self.length_at = ctypes.addressof(self.length)

    def deliver(self, kernel: Kernel, address: int, length_address: int) -> None:
        """Write the address as far as the guest has room, and its whole length."""
        room = int32(kernel.space.load(length_address, 4))
        if room < 0:
            raise failure(errno.EINVAL)
        data = _guest_address(kernel, self.address.raw[:min(self.length.value, _ADDRESS_SIZE)])
        kernel.space.write(address, data[:room])
        kernel.space.write(length_address, len(data).to_bytes(4, "little"))


def _guest_address(kernel: Kernel, data: bytes) -> bytes:
    if data[:2] == struct.pack("=H", _AF_UNIX) and data[2:3] not in (b"", b"\0"):
        path, end, _rest = data[2:].partition(b"\0")
        return data[:2] + kernel.sysroot.guest_path(path) + end
    return data


# Making and joining ---------------------------------------------------------------------------------------------


def _add(kernel: Kernel, made: int, flags: int) -> int:
    return kernel.descriptors.add(made, bool(flags & _SOCK_CLOEXEC))


def socket(kernel: Kernel, family: int, kind: int, protocol: int) -> int:
    made = host.call("socket", int32(family), int32(kind) | _SOCK_CLOEXEC, int32(protocol))
    return _add(kernel, made, kind)


def socketpair(kernel: Kernel, family: int, kind: int, protocol: int, pair: int) -> None:
    kernel.space.target(pair, 8)
    made = (ctypes.c_int32 * 2)()
    host.call("socketpair", int32(family), int32(kind) | _SOCK_CLOEXEC, int32(protocol), made)
    numbers: list[int] = []
    try:
        for each in made:
            numbers.append(_add(kernel, each, kind))
    except OSError:
        if numbers:
            kernel.descriptors.close(numbers[0])
        else:
            os.close(made[1])
        raise
    kernel.space.write(pair, struct.pack("<ii", *numbers))


def bind(kernel: Kernel, fd: int, address: int, length: int) -> None:
    sock = kernel.fd(fd)
    with _host_address(kernel, address, length) as (data, size):
        host.call("bind", sock, data, size)


def connect(kernel: Kernel, fd: int, address: int, length: int) -> None:
    sock = kernel.fd(fd)
    with _host_address(kernel, address, length) as (data, size):
        kernel.blocking("connect", sock, data, size)


def listen(kernel: Kernel, fd: int, backlog: int) -> None:
    host.call("listen", kernel.fd(fd), int32(backlog))


def accept4(kernel: Kernel, fd: int, address: int, length_address: int, flags: int) -> int:
    sock, room = kernel.fd(fd), _Room()
    if flags & ~(_SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise failure(errno.EINVAL)
    made = kernel.blocking("accept4", sock, room.address, room.length_at, flags | _SOCK_CLOEXEC)
    number = _add(kernel, made, flags)
    if address:
        try:
            room.deliver(kernel, address, length_address)
        except Exception:
            kernel.descriptors.close(number)
            raise
    return number


def accept(kernel: Kernel, fd: int, address: int, length_address: int) -> int:
    return accept4(kernel, fd, address, length_address, 0)


def _name(kernel: Kernel, call: str, fd: int, address: int, length_address: int) -> None:
    room = _Room()
    host.call(call, kernel.fd(fd), room.address, room.length_at)
    room.deliver(kernel, address, length_address)


def getsockname(kernel: Kernel, fd: int, address: int, length_address: int) -> None:
    _name(kernel, "getsockname", fd, address, length_address)


def getpeername(kernel: Kernel, fd: int, address: int, length_address: int) -> None:
    _name(kernel, "getpeername", fd, address, length_address)


def shutdown(kernel: Kernel, fd: int, how: int) -> None:
    host.call("shutdown", kernel.fd(fd), int32(how))


# Options ----------------------------------------------------------------------------------------------------------


def setsockopt(kernel: Kernel, fd: int, level: int, option: int, value: int, length: int) -> None:
    sock, level, option, length = kernel.fd(fd), int32(level), int32(option), int32(length)
    if not 0 <= length <= _MAX_OPTION:
        raise failure(errno.EINVAL)
    if level == _SOL_SOCKET and option in (_SO_ATTACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF):
        program = kernel.take(value, "sock_fprog")
        rules = kernel.space.source(program["filter"], 8 * program["len"])
        host.call("setsockopt", sock, level, option, struct.pack("=H6xQ", program["len"], rules), 16)
        return
    if level == _SOL_SOCKET and option in (_SO_ATTACH_BPF, _SO_ATTACH_REUSEPORT_EBPF):
        raise failure(errno.EINVAL)  # bpf is refused, so the guest has no such descriptor
    host.call("setsockopt", sock, level, option, kernel.space.source(value, length) if value else None, length)


def getsockopt(kernel: Kernel, fd: int, level: int, option: int, value: int, length_address: int) -> None:
    sock, level, option = kernel.fd(fd), int32(level), int32(option)
    room = int32(kernel.space.load(length_address, 4))
    if room < 0:
        raise failure(errno.EINVAL)
    room = min(room, _MAX_OPTION)
    found = ctypes.create_string_buffer(kernel.space.read(value, room) if value else bytes(room), room + 1)
    length = ctypes.c_uint32(room)
    host.call("getsockopt", sock, level, option, found, ctypes.addressof(length))
    data = found.raw[:length.value]
    if level == _SOL_SOCKET and option == _SO_PEERCRED:
        data = _guest_credentials(kernel, data)
    elif level == _SOL_SOCKET and option == _SO_PEERPIDFD:
        data = kernel.descriptors.add(int.from_bytes(data, "little"), True).to_bytes(4, "little")
    kernel.space.write(value, data)
    kernel.space.write(length_address, len(data).to_bytes(4, "little"))


# Sending and receiving -----------------------------------------------------------------------------------------------


def _sent(kernel: Kernel, flags: int, call: str, *arguments: Any) -> int:
    try:
        return kernel.blocking(call, *arguments)
    except BrokenPipeError:
        if not flags & _MSG_NOSIGNAL:
            kernel.signals.raise_signal(kernel, _SIGPIPE)
        raise


def sendto(kernel: Kernel, fd: int, buffer: int, count: int, flags: int, address: int, length: int) -> int:
    sock, count, flags = kernel.fd(fd), min(count, _MAX_LENGTH), int32(flags)
    data = kernel.space.source(buffer, count)
    with _host_address(kernel, address, length if address else 0) as (name, size):
        return _sent(kernel, flags, "sendto", sock, data, count, flags, name, size)


def recvfrom(kernel: Kernel, fd: int, buffer: int, count: int, flags: int, address: int, length_address: int) -> int:
    sock, count = kernel.fd(fd), min(count, _MAX_LENGTH)
    there, count = kernel.target(buffer, count)
    room = _Room()
    got = kernel.blocking("recvfrom", sock, there, count, int32(flags), room.address,
                    room.length_at)
    kernel.space.arrived(buffer, min(got, count))
    if address:
        room.deliver(kernel, address, length_address)
    return got


class _Message:
    """The host's struct msghdr for a guest's, with all that it points to."""

    def __init__(self, kernel: Kernel, address: int, receiving: bool) -> None:
        self.kernel = kernel
        self.address = address
        self.given = given = kernel.take(address, "msghdr")
        self.data = Vectors(kernel, given["iov"], given["iovlen"], receiving, too_many=errno.EMSGSIZE)
        if given["controllen"] > _MAX_CONTROL:
            raise failure(errno.ENOBUFS)
        self.form = kernel.layout("msghdr")

    def header(self, name: Any, name_length: int, control: Any, control_length: int) -> Any:
        """The host's structure; what it points to must be kept by the caller."""
        return ctypes.create_string_buffer(self.form.pack({
            "name": ctypes.addressof(name) if name is not None else 0, "namelen": name_length,
            "iov": ctypes.addressof(self.data.rows), "iovlen": self.data.count,
            "control": ctypes.addressof(control) if control_length else 0, "controllen": control_length}))

    def send(self, sock: int, flags: int) -> int:
        given = self.given
        control = _host_control(self.kernel, self.kernel.space.read(given["control"], given["controllen"]))
        passed = ctypes.create_string_buffer(control, len(control) + 1)
        with _host_address(self.kernel, given["name"], given["namelen"] if given["name"] else 0) as (name, size):
            named = None if name is None else ctypes.create_string_buffer(name, size + 1)
            return _sent(self.kernel, flags, "sendmsg", sock, self.header(named, size, passed, len(control)), flags)

    def receive(self, sock: int, flags: int) -> int:
        given, space, room = self.given, self.kernel.space, _Room()
        control = ctypes.create_string_buffer(given["controllen"] + 1)
        header = self.header(room.address, _ADDRESS_SIZE, control, given["controllen"])
        got = self.kernel.blocking("recvmsg", sock, header, flags | _MSG_CMSG_CLOEXEC)
        self.data.arrived(got)
        answer = self.form.unpack(header.raw)
        found = control.raw[:answer["controllen"]]
        data, cut = _guest_control(self.kernel, found, bool(flags & _MSG_CMSG_CLOEXEC))
        name = _guest_address(self.kernel, room.address.raw[:answer["namelen"]])
        if given["name"]:
            space.write(given["name"], name[:given["namelen"]])
            given["namelen"] = len(name)
        space.write(given["control"], data)
        shown = answer["flags"] & ~_MSG_CMSG_CLOEXEC | flags & _MSG_CMSG_CLOEXEC | (_MSG_CTRUNC if cut else 0)
        self.kernel.put(self.address, "msghdr", **given | {"controllen": len(data), "flags": int32(shown)})
        return got


def sendmsg(kernel: Kernel, fd: int, message: int, flags: int) -> int:
    return _Message(kernel, message, False).send(kernel.fd(fd), int32(flags))


def recvmsg(kernel: Kernel, fd: int, message: int, flags: int) -> int:
    return _Message(kernel, message, True).receive(kernel.fd(fd), int32(flags))


def _several(kernel: Kernel, messages: int, count: int, one: Callable[[int, int], int]) -> int:
    """Do `one(index, address)` for up to `count` messages: how many there were before the first error."""
    size, length_at = kernel.layout("mmsghdr").size, kernel.layout("mmsghdr").offsets["len"]
    for index in range(min(count & 0xFFFFFFFF, vectors.MOST)):
        address = messages + index * size
        try:
            moved = one(index, address)
        except OSError:
            if index == 0:
                raise
            return index
        if moved < 0:
            return index
        kernel.space.write(address + length_at, moved.to_bytes(4, "little"))
    return min(count & 0xFFFFFFFF, vectors.MOST)


def sendmmsg(kernel: Kernel, fd: int, messages: int, count: int, flags: int) -> int:
    sock, flags = kernel.fd(fd), int32(flags)
    return _several(kernel, messages, count, lambda _index, address: _Message(kernel, address, False).send(sock, flags))


def recvmmsg(kernel: Kernel, fd: int, messages: int, count: int, flags: int, timeout: int) -> int:
    """The timeout is looked at after each message, as Linux does: it does not end a wait."""
    sock, flags = kernel.fd(fd), int32(flags)
    deadline = time.monotonic_ns() + kernel.take_time(timeout) if timeout else None

    def one(index: int, address: int) -> int:
        if index and deadline is not None and time.monotonic_ns() >= deadline:
            return -1
        again = _MSG_DONTWAIT if index and flags & _MSG_WAITFORONE else 0
        return _Message(kernel, address, True).receive(sock, flags & ~_MSG_WAITFORONE | again)

    received = _several(kernel, messages, count, one)
    if deadline is not None:
        seconds, nanoseconds = divmod(max(0, deadline - time.monotonic_ns()), 1_000_000_000)
        kernel.put(timeout, "timespec", tv_sec=seconds, tv_nsec=nanoseconds)
    return received


# Control data -------------------------------------------------------------------------------------------------------


def _parts(kernel: Kernel, data: bytes, strict: bool) -> Iterator[tuple[int, int, bytes]]:
    """Level, type and contents of each control message; EINVAL for a wrong length of the guest's."""
    form, at = kernel.layout("cmsghdr"), 0
    while at + form.size <= len(data):
        head = form.unpack(data[at:at + form.size])
        if not form.size <= head["len"] <= len(data) - at:
            if strict:
                raise failure(errno.EINVAL)
            return
        yield head["level"], head["type"], data[at + form.size:at + head["len"]]
        at += head["len"] + 7 & -8


def _part(kernel: Kernel, level: int, kind: int, contents: bytes) -> bytes:
    form = kernel.layout("cmsghdr")
    head = form.pack({"len": form.size + len(contents), "level": level, "type": kind})
    return head + contents + bytes(-len(contents) & 7)


def _host_control(kernel: Kernel, data: bytes) -> bytes:
    parts = []
    for level, kind, contents in _parts(kernel, data, True):
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            numbers = struct.unpack(f"<{len(contents) // 4}i", contents[:len(contents) & -4])
            contents = struct.pack(f"={len(numbers)}i", *map(kernel.descriptors.host, numbers))
        elif level == _SOL_SOCKET and kind == _SCM_CREDENTIALS and contents[:4] == kernel.pid.to_bytes(4, "little"):
            contents = os.getpid().to_bytes(4, "little") + contents[4:]
        parts.append(_part(kernel, level, kind, contents))
    return b"".join(parts)


def _guest_control(kernel: Kernel, data: bytes, close_on_exec: bool) -> tuple[bytes, bool]:
    """What the host received, and whether descriptors were lost because the guest had no numbers left."""
    parts, cut = [], False
    for level, kind, contents in _parts(kernel, data, False):
        if level == _SOL_SOCKET and kind in (_SCM_RIGHTS, _SCM_PIDFD):
            numbers = []
            for received in struct.unpack(f"={len(contents) // 4}i", contents):
                try:
                    numbers.append(kernel.descriptors.add(received, close_on_exec or kind == _SCM_PIDFD))
                except OSError:
                    cut = True
            if not numbers:
                continue
            contents = struct.pack(f"<{len(numbers)}i", *numbers)
        elif level == _SOL_SOCKET and kind == _SCM_CREDENTIALS:
            contents = _guest_credentials(kernel, contents)
        parts.append(_part(kernel, level, kind, contents))
    whole = b"".join(parts)
    return whole[:len(data)], cut


def _guest_credentials(kernel: Kernel, contents: bytes) -> bytes:
    own = contents[:4] == os.getpid().to_bytes(4, "little")
    return kernel.pid.to_bytes(4, "little") + contents[4:] if own else contents


CALLS: dict[str, Callable[..., int | None]] = {
    "socket": socket, "socketpair": socketpair, "bind": bind, "listen": listen, "accept": accept,
    "accept4": accept4, "connect": connect, "getsockname": getsockname, "getpeername": getpeername,
    "sendto": sendto, "recvfrom": recvfrom, "setsockopt": setsockopt, "getsockopt": getsockopt,
    "shutdown": shutdown, "sendmsg": sendmsg, "recvmsg": recvmsg, "sendmmsg": sendmmsg, "recvmmsg": recvmmsg,
}
