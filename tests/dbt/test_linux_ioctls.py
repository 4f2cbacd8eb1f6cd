"""Requests of ioctl, called directly: terminals, interfaces, files."""

from __future__ import annotations

import errno
import os
import socket
import struct
import termios
from pathlib import Path

import pytest
from support.kernel import AT_FDCWD, BAD, BUFFER, SCRATCH, Guest

from guests.riscv.linux_ioctls import IOCTLS, ROWS


def test_a_terminal_of_ones_own(guest: Guest) -> None:
    main = guest.ok("openat", AT_FDCWD, "/dev/ptmx", 0o402, 0)
    guest.put(BUFFER, "<i", 0)
    guest.ok("ioctl", main, IOCTLS["TIOCSPTLCK"], BUFFER)
    guest.ok("ioctl", main, IOCTLS["TIOCGPTLCK"], SCRATCH)
    assert guest.get(SCRATCH, "<i") == (0,)
    guest.ok("ioctl", main, IOCTLS["TIOCGPTN"], BUFFER)
    number = guest.get(BUFFER, "<I")[0]
    peer = guest.ok("ioctl", main, IOCTLS["TIOCGPTPEER"], 0o2000402)
    assert guest.ok("fcntl", peer, 1, 0) == 1 and guest.ok("fcntl", peer, 3, 0) & 3 == 2
    other = guest.ok("openat", AT_FDCWD, f"/dev/pts/{number}", 0o402, 0)
    assert os.ttyname(guest.kernel.fd(other)) == f"/dev/pts/{number}"
    guest.ok("ioctl", peer, IOCTLS["TCGETS2"], BUFFER)
    assert guest.get(BUFFER + 36, "<II") == (38400, 38400)
    flags = guest.get(BUFFER, "<4I")
    guest.put(BUFFER + 8, "<II", flags[2] & ~0o10017 | 0o10000, flags[3] & ~(termios.ECHO | termios.ICANON))  # BOTHER
    guest.put(BUFFER + 36, "<II", 12345, 12345)
    guest.ok("ioctl", peer, IOCTLS["TCSETS2"], BUFFER)
    guest.ok("ioctl", other, IOCTLS["TCGETS2"], SCRATCH)
    assert guest.get(SCRATCH + 40, "<I") == (12345,)
    guest.put(BUFFER, "<4H", 40, 100, 0, 0)
    guest.ok("ioctl", main, IOCTLS["TIOCSWINSZ"], BUFFER)
    guest.ok("ioctl", other, IOCTLS["TIOCGWINSZ"], SCRATCH)
    assert guest.get(SCRATCH, "<HH") == (40, 100)
    guest.space.write(BUFFER, b"line")
    guest.ok("write", main, BUFFER, 4)
    guest.put(BUFFER, "<ihh", other, 1, 0)
    assert guest.ok("ppoll", BUFFER, 1, 0, 0, 8) == 1
    guest.ok("ioctl", other, IOCTLS["FIONREAD"], SCRATCH)
    assert guest.get(SCRATCH, "<i") == (4,)
    guest.ok("ioctl", other, IOCTLS["TCFLSH"], 0)
    guest.ok("ioctl", other, IOCTLS["FIONREAD"], SCRATCH)
    assert guest.get(SCRATCH, "<i") == (0,)
    guest.ok("ioctl", other, IOCTLS["TIOCEXCL"], 0)
    guest.ok("ioctl", other, IOCTLS["TIOCGEXCL"], SCRATCH)
    assert guest.get(SCRATCH, "<i") == (1,)


def test_interfaces(guest: Guest) -> None:
    fd = guest.ok("socket", 2, 2, 0)
    names = {name: index for index, name in socket.if_nameindex()}
    guest.space.write(BUFFER, b"lo".ljust(40, b"\0"))
    guest.ok("ioctl", fd, IOCTLS["SIOCGIFINDEX"], BUFFER)
    assert guest.get(BUFFER + 16, "<i") == (names["lo"],)
    guest.ok("ioctl", fd, IOCTLS["SIOCGIFNAME"], BUFFER)
    assert guest.space.read_cstring(BUFFER) == b"lo"
    guest.ok("ioctl", fd, IOCTLS["SIOCGIFMTU"], BUFFER)
    assert guest.get(BUFFER + 16, "<i")[0] >= 1500
    guest.put(BUFFER, "<i4xQ", 4000, SCRATCH)
    guest.ok("ioctl", fd, IOCTLS["SIOCGIFCONF"], BUFFER)
    length = guest.get(BUFFER, "<i")[0]
    data = guest.space.read(SCRATCH, length)
    listed = {data[at:at + 16].rstrip(b"\0").decode() for at in range(0, length, 40)}
    assert length % 40 == 0 and listed <= set(names)
    guest.put(BUFFER, "<i4xQ", 0, 0)
    guest.ok("ioctl", fd, IOCTLS["SIOCGIFCONF"], BUFFER)
    assert guest.get(BUFFER, "<i") == (length,)
    guest.put(BUFFER, "<i4xQ", 4000, BAD)
    guest.fails(errno.EFAULT, "ioctl", fd, IOCTLS["SIOCGIFCONF"], BUFFER)
    guest.space.write(BUFFER, b"nonesuch".ljust(40, b"\0"))
    guest.fails(errno.ENODEV, "ioctl", fd, IOCTLS["SIOCGIFMTU"], BUFFER)


def test_files_and_devices(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "from").write_bytes(bytes(range(256)) * 64)
    source = guest.ok("openat", AT_FDCWD, "from", 0, 0)
    sink = guest.ok("openat", AT_FDCWD, "to", 0o102, 0o600)
    guest.put(BUFFER, "<q3Q", source, 0, 4096, 0)
    for result, length in ((guest.call("ioctl", sink, IOCTLS["FICLONE"], source), 16384),
                           (guest.call("ioctl", sink, IOCTLS["FICLONERANGE"], BUFFER), 4096)):
        assert result in (0, -errno.EOPNOTSUPP, -errno.ENOTTY, -errno.EINVAL, -errno.EXDEV)  # few file systems can
        if result == 0:
            assert (tmp_path / "to").read_bytes()[:length] == (tmp_path / "from").read_bytes()[:length]
    guest.fails(errno.EBADF, "ioctl", sink, IOCTLS["FICLONE"], 99)
    guest.put(BUFFER, "<q", 99)
    guest.fails(errno.EBADF, "ioctl", sink, IOCTLS["FICLONERANGE"], BUFFER)
    guest.ok("ioctl", sink, IOCTLS["FIGETBSZ"], BUFFER)
    assert guest.get(BUFFER, "<i") == (os.stat(tmp_path).st_blksize,)
    result = guest.call("ioctl", sink, IOCTLS["FS_IOC_GETFLAGS"], BUFFER)
    assert result in (0, -errno.ENOTTY, -errno.EOPNOTSUPP)
    random = guest.ok("openat", AT_FDCWD, "/dev/urandom", 0, 0)
    guest.ok("ioctl", random, IOCTLS["RNDGETENTCNT"], BUFFER)
    assert 0 <= guest.get(BUFFER, "<i")[0] <= 4096
    space = guest.ok("openat", AT_FDCWD, "/proc/self/ns/uts", 0, 0)
    assert guest.ok("ioctl", space, IOCTLS["NS_GET_NSTYPE"], 0) == 0x04000000  # CLONE_NEWUTS
    owner = guest.ok("ioctl", space, IOCTLS["NS_GET_USERNS"], 0)
    assert guest.ok("ioctl", owner, IOCTLS["NS_GET_NSTYPE"], 0) == 0x10000000
    guest.ok("ioctl", sink, IOCTLS["FIOCLEX"], 0)
    assert guest.ok("fcntl", sink, 1, 0) == 1
    guest.ok("ioctl", sink, IOCTLS["FIONCLEX"], 0)
    assert guest.ok("fcntl", sink, 1, 0) == 0


@pytest.mark.parametrize("line", ROWS.strip().splitlines(), ids=lambda line: line.split()[0])
def test_no_request_reaches_what_the_guest_has_not(guest: Guest, line: str) -> None:
    """With a bad descriptor, and with an address where nothing is."""
    name, number, kind, *_size = line.split()
    guest.fails(errno.EBADF, "ioctl", 99, int(number, 16), BUFFER)
    if kind in ("in", "out", "io", "range", "list"):
        guest.fails(errno.EFAULT, "ioctl", 0, int(number, 16), BAD)
    assert IOCTLS[name] == int(number, 16)


def test_sizes_are_those_in_the_numbers() -> None:
    """A number made by _IOC holds the size; longs that are ints since ever are the exceptions."""
    for line in ROWS.strip().splitlines():
        name, number, kind, *size = line.split()
        encoded = int(number, 16) >> 16 & 0x3FFF
        if encoded and kind in ("in", "out", "io"):
            known = {"FS_IOC_GETFLAGS", "FS_IOC_SETFLAGS", "FS_IOC_GETVERSION", "FS_IOC_SETVERSION", "BLKBSZGET",
                     "TUNSETIFF", "TUNGETIFF"}
            assert int(size[0]) == encoded or name in known, name
    assert struct.calcsize("=16s24s") == 40  # struct ifreq, which TUNSETIFF calls an int
