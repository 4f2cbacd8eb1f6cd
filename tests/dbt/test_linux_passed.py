"""Calls that the host carries out as they are: that each argument reaches it as what it is."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kernel import AT_FDCWD, BAD, BUFFER, NUMBERS, SCRATCH, Guest

from dbt.linux import passed
from dbt.linux.signatures import SIGNATURES
from dbt.memory import EXEC, READ, WRITE, AddressSpace


def opened(guest: Guest, name: str, flags: int = 0o102) -> int:
    return guest.ok("openat", AT_FDCWD, name, flags, 0o600)


@pytest.mark.parametrize("name", passed.ROWS)
def test_rows_have_as_many_arguments_as_strace_shows(name: str) -> None:
    assert passed.CALLS[name].count == len(SIGNATURES[name].parameters)  # type: ignore[attr-defined]


# Each argument of each row that is a descriptor, a path or memory, wrong in its turn.
WRONG = {"fd": (99, errno.EBADF), "time": (BAD, errno.EFAULT), "path": (BAD, errno.EFAULT),
         "string": (BAD, errno.EFAULT), "in": (BAD, errno.EFAULT),
         "out": (BAD, errno.EFAULT), "io": (BAD, errno.EFAULT)}


def wrongs() -> Iterator[tuple[str, int, str]]:
    for name in sorted(passed.ROWS):
        handler = passed.CALLS[name]
        for index, kind in enumerate(handler.kinds):  # type: ignore[attr-defined]
            if kind.partition(":")[0] in WRONG:
                yield name, index, kind.partition(":")[0]


@pytest.mark.parametrize(("name", "index", "kind"), [*wrongs()])
def test_wrong_arguments(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, index: int,
                         kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    fd = opened(guest, "f")
    guest.space.write(BUFFER, b"none\0")
    good = {"fd": fd, "at": AT_FDCWD, "path": BUFFER, "string": BUFFER, "in": SCRATCH, "out": SCRATCH, "io": SCRATCH,
            "int": 4, "long": 4, "pid": 0, "time": 0}
    wrong, code = WRONG[kind]
    kinds = [each.partition(":")[0] for each in passed.CALLS[name].kinds]  # type: ignore[attr-defined]
    arguments = [wrong if at == index else good[each] for at, each in enumerate(kinds)]
    found = guest.call(name, *arguments)
    allowed = {-code}
    if kind == "string":  # the host reads those, after what else it looks at
        allowed |= {-errno.EPERM, -errno.ENOENT, -errno.EINVAL, -errno.ENODEV}
    assert found in allowed, (name, errno.errorcode.get(-found, found))


def test_splice_moves_offsets(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_bytes(b"0123456789")
    source = opened(guest, "f", 0)
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    guest.put(SCRATCH, "<q", 2)
    assert guest.ok("splice", source, SCRATCH, writing, 0, 5, 0) == 5
    assert guest.get(SCRATCH, "<q") == (7,)
    guest.ok("pipe2", BUFFER, 0)
    second, third = guest.get(BUFFER, "<ii")
    assert guest.ok("tee", reading, third, 100, 0) == 5
    for fd in (reading, second):
        assert guest.ok("read", fd, BUFFER, 100) == 5 and guest.space.read(BUFFER, 5) == b"23456"
    guest.fails(errno.EINVAL, "splice", reading, 0, writing, 0, 5, 0)


def test_what_the_host_wrote_is_recorded_and_drops_translations(guest: Guest, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_bytes(bytes(10))
    source = opened(guest, "f", 0)
    guest.ok("pipe2", BUFFER, 0)
    writing = guest.get(BUFFER, "<ii")[1]
    guest.ok("mprotect", SCRATCH, 4096, READ | WRITE | EXEC)
    told: list[tuple[int, int]] = []
    guest.space.watchers.append(lambda start, end: told.append((start, end)))
    guest.space.watch(SCRATCH, SCRATCH + 4096)
    other = AddressSpace()
    other.map(BUFFER, 0x40000, READ | WRITE, fixed=True)
    with guest.space.record() as effects:
        guest.ok("splice", source, SCRATCH, writing, 0, 6, 0)
    other.replay(effects)
    assert told == [(SCRATCH, SCRATCH + 8)]
    assert other.read(SCRATCH, 8) == guest.space.read(SCRATCH, 8) == struct.pack("<q", 6)
    other.close()


def test_inotify_names_what_happened(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watcher = guest.ok("inotify_init1", 0o2004000)
    assert guest.ok("fcntl", watcher, 1, 0) == 1
    guest.fails(errno.EAGAIN, "read", watcher, BUFFER, 1000)
    number = guest.ok("inotify_add_watch", watcher, ".", 0x100)  # IN_CREATE
    (tmp_path / "new").touch()
    assert guest.ok("read", watcher, BUFFER, 1000) == 32
    assert guest.get(BUFFER, "<iIII") == (number, 0x100, 0, 16) and guest.space.read_cstring(BUFFER + 16) == b"new"
    guest.ok("inotify_rm_watch", watcher, number)
    guest.fails(errno.EINVAL, "inotify_rm_watch", watcher, number)


def test_descriptors_that_the_host_makes(guest: Guest) -> None:
    plain = guest.ok("epoll_create1", 0)
    closing = guest.ok("epoll_create1", 0o2000000)
    assert (guest.ok("fcntl", plain, 1, 0), guest.ok("fcntl", closing, 1, 0)) == (0, 1)
    for number in (plain, closing):  # no child of ours gets any
        assert not os.get_inheritable(guest.kernel.fd(number))
    guest.fails(errno.EINVAL, "epoll_create1", 7)
    child = guest.ok("pidfd_open", guest.kernel.pid, 0)
    assert guest.ok("fcntl", child, 1, 0) == 1
    guest.fails(errno.EINVAL, "pidfd_open", -5, 0)


def test_scheduling_is_the_hosts(guest: Guest) -> None:
    assert guest.ok("sched_getscheduler", 0) == os.sched_getscheduler(0)
    guest.ok("sched_getparam", guest.kernel.pid, BUFFER)
    assert guest.get(BUFFER, "<i") == (os.sched_getparam(0).sched_priority,)
    guest.put(BUFFER, "<i", 0)
    guest.ok("sched_setparam", 0, BUFFER)
    guest.ok("sched_getattr", 0, BUFFER, 56, 0)
    assert guest.get(BUFFER, "<IIQi") == (56, os.sched_getscheduler(0), 0, os.getpriority(os.PRIO_PROCESS, 0))
    guest.ok("sched_setattr", 0, BUFFER, 0)
    guest.fails(errno.EINVAL, "sched_getattr", 0, BUFFER, 7, 0)
    guest.ok("sched_rr_get_interval", 0, BUFFER)
    assert guest.get(BUFFER, "<qq")[0] == 0
    level = guest.ok("ioprio_get", 1, 0)
    guest.ok("ioprio_set", 1, 0, level)
    guest.fails(errno.ESRCH, "sched_getparam", 1 << 30, BUFFER)


def test_caches_are_counted(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_bytes(bytes(8192))
    fd = opened(guest, "f")
    guest.put(BUFFER, "<QQ", 0, 8192)
    result = guest.call("cachestat", fd, BUFFER, SCRATCH, 0)
    if result == -errno.ENOSYS:
        pytest.skip("a kernel before Linux 6.5")
    assert result in (0, -errno.EOPNOTSUPP)
    if result == 0:
        assert guest.get(SCRATCH, "<Q") == (2,)
    guest.ok("sync_file_range", fd, 0, 0, 2)
    guest.fails(errno.EINVAL, "sync_file_range", fd, 0, 0, 99)


def test_numbers_without_a_call(guest: Guest) -> None:
    """Privileged calls, with what fails for everybody."""
    guest.fails(errno.ENOENT, "mount", "none", "/no/such/folder", "tmpfs", 0, 0)
    guest.fails(errno.ENOENT, "umount2", "/no/such/folder", 0)
    guest.fails(errno.EINVAL, "unshare", 1)
    guest.fails(errno.EINVAL, "sethostname", BUFFER, 1000)
    assert set(passed.ROWS) <= set(NUMBERS)
