"""Sockets, called directly; the other end is Python's own."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from pathlib import Path

import pytest
from support.kernel import BAD, BUFFER, SCRATCH, Guest

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
STREAM, DATAGRAM = 1, 2
CLOEXEC, NONBLOCK = 0o2000000, 0o4000
HEADER, VECTORS, CONTROL, DATA = SCRATCH, SCRATCH + 0x400, SCRATCH + 0x800, SCRATCH + 0x1000


def pair(guest: Guest, kind: int = STREAM) -> tuple[int, int]:
    guest.ok("socketpair", UNIX, kind, 0, BUFFER)
    first, second = guest.get(BUFFER, "<ii")
    return first, second


def message(guest: Guest, parts: list[tuple[int, int]], control: int = 0, control_length: int = 0, name: int = 0,
            name_length: int = 0, header: int = HEADER) -> int:
    vectors = VECTORS + (header - HEADER)
    guest.space.write(vectors, b"".join(struct.pack("<QQ", *part) for part in parts))
    guest.put(header, "<QIIQQQQii", name, name_length, 0, vectors, len(parts), control, control_length, 0, 0)
    return header


def rights(*numbers: int) -> bytes:
    return struct.pack(f"<QiI{len(numbers)}i", 16 + 4 * len(numbers), 1, 1, *numbers) + bytes(-4 * len(numbers) & 7)


def test_streams_over_inet(guest: Guest) -> None:
    server = guest.ok("socket", INET, STREAM | CLOEXEC, 0)
    assert guest.ok("fcntl", server, 1, 0) == 1
    guest.space.write(BUFFER, struct.pack("=H6B8x", INET, 0, 0, 127, 0, 0, 1))
    guest.ok("bind", server, BUFFER, 16)
    guest.ok("listen", server, 5)
    guest.put(SCRATCH, "<I", 16)
    guest.ok("getsockname", server, BUFFER, SCRATCH)
    port = struct.unpack(">H", guest.space.read(BUFFER + 2, 2))[0]
    assert guest.get(SCRATCH, "<I") == (16,) and port
    with socket.create_connection(("127.0.0.1", port)) as other:
        guest.put(SCRATCH, "<I", 8)  # less than the address: it is cut, and its length told
        accepted = guest.ok("accept4", server, BUFFER + 100, SCRATCH, NONBLOCK)
        assert guest.get(SCRATCH, "<I") == (16,)
        assert guest.space.read(BUFFER + 100, 12) == struct.pack("=H", INET) + struct.pack(
            ">H", other.getsockname()[1]) + bytes([127, 0, 0, 1]) + bytes(4)
        guest.fails(errno.EAGAIN, "recvfrom", accepted, BUFFER, 10, 0, 0, 0)
        other.sendall(b"request")
        assert guest.ok("recvfrom", accepted, BUFFER, 3, 2, 0, 0) == 3  # MSG_PEEK
        assert guest.ok("recvfrom", accepted, BUFFER, 100, 0, 0, 0) == 7
        assert guest.space.read(BUFFER, 7) == b"request"
        guest.space.write(BUFFER, b"answer")
        assert guest.ok("sendto", accepted, BUFFER, 6, 0, 0, 0) == 6
        assert other.recv(100) == b"answer"
        guest.put(SCRATCH, "<I", 128)
        guest.ok("getpeername", accepted, BUFFER, SCRATCH)
        assert struct.unpack(">H", guest.space.read(BUFFER + 2, 2))[0] == other.getsockname()[1]
        guest.ok("shutdown", accepted, 1)
        assert other.recv(100) == b""
    client = guest.ok("socket", INET, STREAM, 0)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        guest.space.write(BUFFER, struct.pack("=H", INET) + struct.pack(">H4B8x", listening.getsockname()[1],
                                                                          127, 0, 0, 1))
        guest.ok("connect", client, BUFFER, 16)
        assert listening.accept()[0].close() is None
    guest.fails(errno.EISCONN, "connect", client, BUFFER, 16)


def test_datagrams_name_their_sender(guest: Guest) -> None:
    for family, address in ((INET, "127.0.0.1"), (INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as other:
            try:
                other.bind((address, 0))
            except OSError:
                assert family == INET6, "no network at all"
                continue
            fd = guest.ok("socket", family, DATAGRAM, 0)
            packed = socket.inet_pton(family, address)
            port = struct.pack(">H", other.getsockname()[1])
            where = (struct.pack("=H", family) + port + packed + bytes(8) if family == INET else
                     struct.pack("=H", family) + port + bytes(4) + packed + bytes(4))
            guest.space.write(BUFFER, where)
            guest.space.write(DATA, b"question")
            assert guest.ok("sendto", fd, DATA, 8, 0, BUFFER, len(where)) == 8
            data, sender = other.recvfrom(100)
            assert data == b"question"
            other.sendto(b"a long answer", sender)
            guest.put(SCRATCH, "<I", 128)
            assert guest.ok("recvfrom", fd, DATA, 6, 0x20, BUFFER + 200, SCRATCH) == 13  # MSG_TRUNC
            assert guest.space.read(DATA, 6) == b"a long"
            assert guest.space.read(BUFFER + 200, len(where)) == where


def test_unix_paths_follow_the_sysroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / ("root" * 30)  # the host's path is longer than an address can be
    (root / "run").mkdir(parents=True)
    with socket.socket(UNIX) as server:
        monkeypatch.chdir(root / "run")
        server.bind("service")
        server.listen()
        guest = Guest(sysroot=root)
        fd = guest.ok("socket", UNIX, STREAM, 0)
        guest.space.write(BUFFER, struct.pack("=H", UNIX) + b"/run/service\0")
        guest.ok("connect", fd, BUFFER, 15)
        server.accept()[0].close()
        guest.kernel.close()
        guest.space.close()


def test_unix_names(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (b"here", b"\0abstract-%d" % os.getpid()):
        fd = guest.ok("socket", UNIX, DATAGRAM, 0)
        guest.space.write(BUFFER, struct.pack("=H", UNIX) + name)
        guest.ok("bind", fd, BUFFER, 2 + len(name))
        guest.put(SCRATCH, "<I", 110)
        guest.ok("getsockname", fd, DATA, SCRATCH)
        length = guest.get(SCRATCH, "<I")[0]
        assert guest.space.read(DATA, length).rstrip(b"\0" if name[0] else b"") == struct.pack("=H", UNIX) + name
        with socket.socket(UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"x", name)
        assert guest.ok("read", fd, BUFFER, 10) == 1
    assert (tmp_path / "here").is_socket()


def test_netlink_is_bytes(guest: Guest) -> None:
    fd = guest.ok("socket", NETLINK, 3, 0)
    guest.space.write(BUFFER, struct.pack("=HHII", NETLINK, 0, 0, 0))
    guest.ok("bind", fd, BUFFER, 12)
    request = struct.pack("=IHHII", 17, 18, 0x301, 1, 0) + b"\0"  # RTM_GETLINK, a dump
    guest.space.write(BUFFER, request.ljust(20, b"\0"))
    assert guest.ok("sendto", fd, BUFFER, 20, 0, 0, 0) == 20
    got = guest.ok("recvfrom", fd, DATA, 8192, 0, 0, 0)
    length, kind = struct.unpack_from("=IH", guest.space.read(DATA, got))
    assert kind == 16 and length <= got  # RTM_NEWLINK


def test_messages_are_scattered_and_gathered(guest: Guest) -> None:
    first, second = pair(guest)
    guest.space.write(DATA, b"one and two")
    assert guest.ok("sendmsg", first, message(guest, [(DATA, 4), (0, 0), (DATA + 4, 7)]), 0) == 11
    assert guest.ok("recvmsg", second, message(guest, [(DATA + 100, 2), (DATA + 200, 50)]), 0) == 11
    assert guest.space.read(DATA + 100, 3) == b"on\0" and guest.space.read(DATA + 200, 10) == b"e and two\0"


def test_descriptors_travel_in_both_directions(guest: Guest) -> None:
    first, second = pair(guest)
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    control = rights(writing, reading)
    guest.space.write(CONTROL, control)
    guest.space.write(DATA, b"x")
    guest.ok("sendmsg", first, message(guest, [(DATA, 1)], CONTROL, len(control)), 0)
    guest.ok("close", reading)
    guest.ok("close", writing)
    guest.ok("recvmsg", second, message(guest, [(DATA, 1)], CONTROL, 200), 0x40000000)
    assert guest.get(HEADER + 40, "<Qi") == (24, 0x40000000)
    length, level, kind, *numbers = guest.get(CONTROL, "<Qiiii")
    assert (length, level, kind) == (24, 1, 1) and numbers == [reading, writing]
    assert guest.ok("fcntl", numbers[0], 1, 0) == 1  # MSG_CMSG_CLOEXEC
    guest.space.write(DATA, b"through")
    assert guest.ok("write", numbers[0], DATA, 7) == 7
    assert guest.ok("read", numbers[1], DATA, 100) == 7
    guest.space.write(CONTROL, rights(99))
    guest.fails(errno.EBADF, "sendmsg", first, message(guest, [(DATA, 1)], CONTROL, 24), 0)
    guest.put(CONTROL, "<Qii", 3, 1, 1)
    guest.fails(errno.EINVAL, "sendmsg", first, message(guest, [(DATA, 1)], CONTROL, 24), 0)


def test_descriptors_that_find_no_number_are_cut(guest: Guest) -> None:
    first, second = pair(guest)
    guest.space.write(CONTROL, rights(0, 0, 0))
    guest.ok("sendmsg", first, message(guest, [(DATA, 1)], CONTROL, 32), 0)
    guest.put(BUFFER, "<QQ", 6, 6)
    guest.ok("prlimit64", 0, 7, BUFFER, 0)
    guest.ok("recvmsg", second, message(guest, [(DATA, 1)], CONTROL, 200), 0)
    assert guest.get(CONTROL, "<Qiii") == (20, 1, 1, 5) and guest.get(HEADER + 48, "<i") == (8,)  # MSG_CTRUNC


def test_credentials_name_the_guest() -> None:
    guest = Guest(deterministic_seed=3)
    first, second = pair(guest)
    guest.put(BUFFER, "<i", 1)
    guest.ok("setsockopt", second, 1, 16, BUFFER, 4)  # SO_PASSCRED
    control = struct.pack("<QiIiii", 28, 1, 2, guest.kernel.pid, os.getuid(), os.getgid()) + bytes(4)
    guest.space.write(CONTROL, control)
    guest.ok("sendmsg", first, message(guest, [(DATA, 1)], CONTROL, len(control)), 0)
    guest.ok("recvmsg", second, message(guest, [(DATA, 1)], CONTROL, 200), 0)
    assert guest.space.read(CONTROL, 28) == control[:28]
    guest.put(SCRATCH, "<I", 12)
    guest.ok("getsockopt", first, 1, 17, BUFFER, SCRATCH)  # SO_PEERCRED
    assert guest.get(BUFFER, "<III") == (guest.kernel.pid, os.getuid(), os.getgid())
    guest.kernel.close()
    guest.space.close()


def test_options(guest: Guest) -> None:
    first, second = pair(guest, DATAGRAM)
    guest.put(BUFFER, "<qq", 0, 30_000)
    guest.ok("setsockopt", second, 1, 20, BUFFER, 16)  # SO_RCVTIMEO
    guest.fails(errno.EAGAIN, "recvfrom", second, DATA, 10, 0, 0, 0)
    guest.put(SCRATCH, "<I", 100)
    guest.ok("getsockopt", second, 1, 20, BUFFER + 100, SCRATCH)
    assert guest.get(SCRATCH, "<I") == (16,) and guest.get(BUFFER + 100, "<q") == (0,)
    guest.ok("getsockopt", second, 1, 3, BUFFER, SCRATCH)  # SO_TYPE
    assert guest.get(BUFFER, "<i") == (DATAGRAM,) and guest.get(SCRATCH, "<I") == (4,)
    guest.fails(errno.ENOPROTOOPT, "setsockopt", second, 1, 9999, BUFFER, 4)
    guest.put(BUFFER, "<HBBI", 6, 0, 0, 0)  # a filter that keeps nothing: ret #0
    guest.put(SCRATCH, "<H6xQ", 1, BUFFER)
    guest.ok("setsockopt", second, 1, 26, SCRATCH, 16)  # SO_ATTACH_FILTER
    guest.ok("sendto", first, DATA, 5, 0, 0, 0)
    guest.fails(errno.EAGAIN, "recvfrom", second, DATA, 10, 0x40, 0, 0)


def test_several_messages_at_once(guest: Guest) -> None:
    first, second = pair(guest, DATAGRAM)
    for index in range(3):
        guest.space.write(DATA + 64 * index, b"%d" % index * (index + 1))
        message(guest, [(DATA + 64 * index, index + 1)], header=HEADER + 64 * index)
    assert guest.ok("sendmmsg", first, HEADER, 3, 0) == 3
    assert [guest.get(HEADER + 64 * index + 56, "<I")[0] for index in range(3)] == [1, 2, 3]
    for index in range(4):
        message(guest, [(DATA + 0x800 + 64 * index, 64)], header=HEADER + 64 * index)
    assert guest.ok("recvmmsg", second, HEADER, 4, 0x10000, 0) == 3  # MSG_WAITFORONE
    assert [guest.get(HEADER + 64 * index + 56, "<I")[0] for index in range(3)] == [1, 2, 3]
    assert guest.space.read(DATA + 0x800 + 128, 4) == b"222\0"
    guest.fails(errno.EAGAIN, "recvmmsg", second, HEADER, 4, 0x40, 0)


def test_broken_connections(guest: Guest) -> None:
    first, second = pair(guest)
    guest.ok("close", second)
    guest.fails(errno.EPIPE, "sendto", first, DATA, 1, 0x4000, 0, 0)  # MSG_NOSIGNAL
    assert guest.taken() == 0
    guest.fails(errno.EPIPE, "sendto", first, DATA, 1, 0, 0, 0)
    assert guest.taken() == signal.SIGPIPE


ROWS = [
    (errno.EBADF, "listen", (99, 1)), (errno.EBADF, "bind", (99, BUFFER, 16)),
    (errno.EBADF, "connect", (99, BUFFER, 16)),
    (errno.EBADF, "accept", (99, 0, 0)), (errno.EBADF, "sendto", (99, BUFFER, 1, 0, 0, 0)),
    (errno.EBADF, "recvfrom", (99, BUFFER, 1, 0, 0, 0)), (errno.EBADF, "sendmsg", (99, HEADER, 0)),
    (errno.EBADF, "recvmsg", (99, HEADER, 0)), (errno.EBADF, "sendmmsg", (99, HEADER, 1, 0)),
    (errno.EBADF, "recvmmsg", (99, HEADER, 1, 0, 0)), (errno.EBADF, "shutdown", (99, 0)),
    (errno.EBADF, "setsockopt", (99, 1, 2, BUFFER, 4)), (errno.EBADF, "getsockopt", (99, 1, 2, BUFFER, BUFFER)),
    (errno.EBADF, "getsockname", (99, BUFFER, BUFFER)), (errno.EBADF, "getpeername", (99, BUFFER, BUFFER)),
    (errno.ENOTSOCK, "listen", (0, 1)), (errno.EINVAL, "shutdown", (3, 7)),
    (errno.EINVAL, "bind", (3, BUFFER, 200)), (errno.EINVAL, "bind", (3, BUFFER, -1)),
    (errno.EFAULT, "bind", (3, BAD, 16)), (errno.EFAULT, "connect", (3, BAD, 16)),
    (errno.EFAULT, "sendto", (3, BAD, 1, 0, 0, 0)), (errno.EFAULT, "recvfrom", (3, BAD, 1, 0, 0, 0)),
    (errno.EFAULT, "sendmsg", (3, BAD, 0)), (errno.EFAULT, "recvmsg", (3, BAD, 0)),
    (errno.EFAULT, "setsockopt", (3, 1, 2, BAD, 4)), (errno.EFAULT, "getsockopt", (3, 1, 3, BUFFER, BAD)),
    (errno.EFAULT, "getsockopt", (3, 1, 3, BAD, HEADER + 4)), (errno.EFAULT, "getsockname", (3, BUFFER, BAD)),
    (errno.EFAULT, "getsockname", (3, BAD, HEADER + 4)), (errno.EFAULT, "socketpair", (UNIX, STREAM, 0, BAD)),
    (errno.EINVAL, "getsockopt", (3, 1, 3, BUFFER, HEADER)), (errno.EINVAL, "accept4", (3, 0, 0, 1)),
    (errno.EAFNOSUPPORT, "socket", (77, STREAM, 0)), (errno.EPROTONOSUPPORT, "socket", (UNIX, STREAM, 77)),
]


@pytest.mark.parametrize(("code", "name", "arguments"), ROWS)
def test_errors(guest: Guest, code: int, name: str, arguments: tuple[int, ...]) -> None:
    assert pair(guest, DATAGRAM) == (3, 4)
    message(guest, [])
    if name in ("getsockopt", "getsockname"):
        guest.put(HEADER, "<iI", -1, 16)
    if name == "recvmmsg":
        message(guest, [(BUFFER, 1)])
    if name == "recvfrom":  # an address is looked at when there is something to put there
        assert guest.ok("sendto", 4, BUFFER, 1, 0, 0, 0) == 1
    guest.fails(code, name, *arguments)


@pytest.mark.parametrize("what", ["vectors", "data", "control", "name"])
@pytest.mark.parametrize("name", ["sendmsg", "recvmsg"])
def test_bad_pointers_in_messages(guest: Guest, name: str, what: str) -> None:
    first, second = pair(guest, DATAGRAM)
    guest.ok("sendto", first, DATA, 1, 0, 0, 0)
    message(guest, [(BAD if what == "data" else DATA, 8)])
    where, size = {"vectors": (16, 0), "data": (0, 0), "control": (32, 40), "name": (0, 8)}[what]
    if what == "data" or (what, name) in (("control", "recvmsg"), ("name", "recvmsg")):
        guest.ok("setsockopt", second, 1, 16, guest_one(guest), 4)  # so that there is something to write
        guest.ok("sendto", first, DATA, 1, 0, 0, 0)
    if what != "data":
        guest.put(HEADER + where, "<Q", BAD)
    if size:
        guest.put(HEADER + size, "<I", 64)
    if (what, name) == ("name", "recvmsg"):
        guest.ok("recvmsg", second, HEADER, 0)  # the sender has no name: nothing is written there
        return
    if (what, name) == ("control", "recvmsg"):
        guest.ok("recvfrom", second, DATA, 1, 0, 0, 0)
    guest.fails(errno.EFAULT, name, second if name == "recvmsg" else first, HEADER, 0)


def guest_one(guest: Guest) -> int:
    guest.put(BUFFER + 0x100, "<i", 1)
    return BUFFER + 0x100
