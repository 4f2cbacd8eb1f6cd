"""The kernel personality, called directly: no CPU, an address space and numbers only."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import struct
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest
from support.kernel import AT_FDCWD, BUFFER, NUMBERS, SCRATCH, Guest

import guests.riscv.linux as abi
from dbt.hosts import generic_linux, x86_64_linux
from dbt.linux.abi import Layout
from dbt.linux.exits import ThreadEnded
from dbt.linux.kernel import HANDLERS, LATER, ExitGroup
from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, AddressSpace

P = PAGE_SIZE


# Data ---------------------------------------------------------------------------------------------------------


# Sizes and offsets printed by a C program built for riscv64 (gcc 12, glibc 2.36, kernel headers 6.1).
LAYOUTS = {
    "stat": (128, {"st_dev": 0, "st_ino": 8, "st_mode": 16, "st_nlink": 20, "st_uid": 24, "st_gid": 28,
                   "st_rdev": 32, "st_size": 48, "st_blksize": 56, "st_blocks": 64, "st_atime": 72,
                   "st_mtime": 88, "st_ctime": 104}),
    "statfs": (120, {"f_type": 0, "f_bsize": 8, "f_blocks": 16, "f_bfree": 24, "f_bavail": 32, "f_files": 40,
                     "f_ffree": 48, "f_fsid": 56, "f_namelen": 64, "f_frsize": 72, "f_flags": 80}),
    "utsname": (390, {"machine": 260, "domainname": 325}),
    "rusage": (144, {"ru_stime_sec": 16, "ru_maxrss": 32, "ru_minflt": 64, "ru_nivcsw": 136}),
    "sysinfo": (112, {"uptime": 0, "loads": 8, "totalram": 32, "procs": 80, "totalhigh": 88, "mem_unit": 104}),
    "iovec": (16, {"length": 8}), "timespec": (16, {"tv_nsec": 8}), "timeval": (16, {"tv_usec": 8}),
    "clone_args": (88, {"exit_signal": 32, "set_tid": 64, "cgroup": 80}),
    "waitid_info": (28, {"si_code": 8, "si_pid": 16, "si_status": 24}),
    "rlimit": (16, {"maximum": 8}), "pollfd": (8, {"events": 4, "revents": 6}), "tms": (32, {"tms_cstime": 24}),
    "termios": (36, {"c_line": 16, "c_cc": 17}), "winsize": (8, {"ws_col": 2}),
    "itimerval": (32, {"value_usec": 24}), "sigevent": (64, {"sigev_signo": 8, "sigev_notify": 12, "sigev_tid": 16}),
    "siginfo_kill": (128, {"si_code": 8, "si_pid": 16, "si_uid": 20}), "siginfo_fault": (128, {"si_addr": 16}),
    "siginfo_timer": (128, {"si_tid": 16, "si_overrun": 20, "si_value": 24}),
    "signalfd_siginfo": (128, {"ssi_pid": 12, "ssi_fd": 20, "ssi_band": 28, "ssi_status": 40, "ssi_int": 44,
                               "ssi_ptr": 48, "ssi_utime": 56, "ssi_stime": 64, "ssi_addr": 72, "ssi_addr_lsb": 80,
                               "ssi_syscall": 84, "ssi_call_addr": 88, "ssi_arch": 96}),
    "ucontext": (960, {"uc_link": 8, "ss_sp": 16, "ss_flags": 24, "ss_size": 32, "uc_sigmask": 40, "gregs": 176,
                       "fpregs": 432, "fcsr": 688}),
    "sigaction": (24, {"flags": 8, "mask": 16}), "sigaltstack": (24, {"ss_size": 16}),
    "msghdr": (56, {"namelen": 8, "iov": 16, "control": 32, "controllen": 40, "flags": 48}),
    "mmsghdr": (64, {"len": 56}),
    "epoll_event": (16, {"data": 8}), "itimerspec": (32, {"value_sec": 16}),
    "semid_ds": (88, {"sem_otime": 48, "sem_ctime": 56, "sem_nsems": 64}),
    "timex": (208, {"offset": 8, "status": 40, "constant": 48, "time_sec": 72, "tick": 88, "tai": 160}),
    "cmsghdr": (16, {"level": 8, "type": 12}), "sock_fprog": (16, {"filter": 8}),
    "flock": (32, {"l_start": 8, "l_len": 16, "l_pid": 24}), "hwprobe": (16, {"value": 8}),
}


def test_structures_have_the_layout_that_the_compiler_gives() -> None:
    assert set(LAYOUTS) == set(abi.STRUCTS)
    for name, (size, offsets) in LAYOUTS.items():
        form = Layout(abi.STRUCTS[name])
        assert form.size == size, name
        for field, offset in offsets.items():
            assert form.offsets[field] == offset, (name, field)


def test_pack_and_unpack_are_inverse() -> None:
    form = Layout(("a u8", "b i64", "c u16*3", "d 5s"))
    values = {"a": 255, "b": -2, "c": (1, 2, 3), "d": b"abcde"}
    assert form.size == 32 and form.unpack(form.pack(values)) == values


def test_every_handler_is_a_call_of_the_architecture() -> None:
    assert not set(HANDLERS) - set(abi.CALLS.values())
    assert len(set(abi.CALLS.values())) == len(abi.CALLS)


@pytest.mark.parametrize("module", LATER)
def test_families_that_are_imported_later_have_the_calls_that_are_listed(module: str) -> None:
    calls = import_module(f"dbt.linux.{module}").CALLS
    assert sorted(calls) == sorted(LATER[module].split())


def test_numbers_of_the_host_are_those_of_its_headers() -> None:
    for host, header in ((x86_64_linux, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
                         (generic_linux, "/usr/include/asm-generic/unistd.h")):
        if not os.path.exists(header):
            pytest.skip(f"{header} is not here")
        known = {words[1]: words[2] for line in Path(header).read_text().splitlines()
                 if line.startswith("#define __NR") and len(words := line.split()) == 3}
        for name, number in host.CALLS.items():
            listed = known.get(f"__NR3264_{name}") or known.get(f"__NR_{name}")
            assert name in NUMBERS and listed in (str(number), None), (header, name)  # None: newer than the headers
            assert listed or number == NUMBERS[name] >= 424
    assert set(generic_linux.CALLS) == set(x86_64_linux.CALLS)


def test_coverage_lists_all_and_shows_the_gaps(guest: Guest) -> None:
    rows = guest.kernel.coverage()
    assert [row.number for row in rows] == sorted(abi.CALLS)
    by_name = {row.name: row.status for row in rows}
    assert by_name["read"] == "done" and by_name["io_uring_setup"] == "refused"
    assert all(by_name[name] == "done" for name in ("clone3", "execve", "wait4"))
    assert all(by_name[name] == "todo" for name in ("futex_wait", "futex_requeue"))


def test_unknown_calls_are_named_once(guest: Guest) -> None:
    for _ in range(3):
        guest.fails(errno.ENOSYS, "futex_requeue")
        guest.fails(errno.ENOSYS, "io_uring_setup")
        assert guest.kernel.call(9999, (0,) * 6) == (1 << 64) - errno.ENOSYS
    assert guest.said == [
        "system call futex_requeue (number 456) is not implemented; the guest gets ENOSYS",
        "system call number 9999 is not implemented; the guest gets ENOSYS"]


def test_no_call_lets_an_exception_escape(here: Path) -> None:
    """Every handler with wild arguments: an errno or a defined end, nothing else."""
    harmless = {"kill", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
                "setitimer", "timer_create", "timer_settime", "setsid", "setpgid", "fchdir", "chdir", "setuid",
                "setgid", "setresuid", "setresgid",
                "setreuid", "setregid", "setgroups", "setpriority", "nanosleep", "clock_nanosleep", "futex",
                "sync", "umask", "mremap", "munmap", "mmap", "mprotect", "brk", "ppoll", "pselect6", "close",
                "close_range", "tkill", "tgkill", "exit", "exit_group", "sendfile", "unlinkat", "renameat2",
                "mount", "umount2", "pivot_root", "move_mount", "unshare", "setns", "vhangup", "sethostname",
                "setdomainname", "syslog", "ioprio_set", "sched_setscheduler", "sched_setparam", "sched_setattr",
                "msgrcv", "msgsnd", "clone", "clone3", "capset"}
    words = [0, 1, 7, P - 1, BUFFER, BUFFER + 1, 0x13FFF8, 1 << 31, (1 << 32) - 1, 1 << 38, (1 << 63) - 1, 1 << 63,
             (1 << 64) - 1, AT_FDCWD]
    rng = random.Random(7)
    source, sink = os.pipe()
    os.close(sink)
    null = os.open("/dev/null", os.O_RDWR)
    guest = Guest(stdin=source, stdout=null, stderr=null)
    before = os.fstat(null)
    try:
        for name in sorted(set(HANDLERS) - harmless):
            for _ in range(60):
                result = guest.kernel.call(NUMBERS[name], tuple(rng.choice(words) for _ in range(6)))
                assert 0 <= result < 1 << 64
    finally:
        if os.geteuid() == 0:  # who may do all has changed the device by now
            os.fchown(null, before.st_uid, before.st_gid)
            os.fchmod(null, stat.S_IMODE(before.st_mode))
    guest.kernel.close()
    guest.space.close()
    os.close(source)
    os.close(null)


# Files ------------------------------------------------------------------------------------------------------------


def test_write_seek_read_and_close(guest: Guest, here: Path) -> None:
    fd = guest.ok("openat", AT_FDCWD, "f", 0o102, 0o640)
    assert fd == 3
    guest.space.write(BUFFER, b"hello, world")
    assert guest.ok("write", fd, BUFFER, 12) == 12
    assert guest.ok("lseek", fd, 7, 0) == 7
    assert guest.ok("read", fd, SCRATCH, 100) == 5
    assert guest.space.read(SCRATCH, 6) == b"world\0"
    assert guest.ok("read", fd, SCRATCH, 100) == 0
    assert guest.ok("pwrite64", fd, BUFFER, 5, 7) == 5
    assert guest.ok("pread64", fd, SCRATCH, 12, 0) == 12
    assert guest.space.read(SCRATCH, 12) == b"hello, hello"
    guest.fails(errno.EINVAL, "pread64", fd, SCRATCH, 12, -1)
    guest.ok("ftruncate", fd, 3)
    guest.ok("close", fd)
    guest.fails(errno.EBADF, "close", fd)
    guest.fails(errno.EBADF, "read", fd, BUFFER, 1)
    assert (here / "f").read_bytes() == b"hel"
    assert stat.S_IMODE((here / "f").stat().st_mode) == 0o640 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_bad_pointers_are_efault_and_lose_nothing(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"0123456789")
    guest.fails(errno.EFAULT, "openat", AT_FDCWD, 0x10, 0, 0)
    fd = guest.ok("openat", AT_FDCWD, "f", 2, 0)
    guest.fails(errno.EFAULT, "read", fd, 0x10, 4)
    guest.fails(errno.EFAULT, "read", fd, (1 << 64) - 1, 4)
    assert guest.ok("read", fd, 0x140000 - 4, 10) == 4  # as much as the mapped page takes
    assert guest.ok("read", fd, BUFFER, 10) == 6
    assert guest.space.read(BUFFER, 6) == b"456789"
    guest.fails(errno.EFAULT, "write", fd, 0x10, 4)
    guest.fails(errno.EFAULT, "fstat", fd, 0x140000 - 8)
    guest.fails(errno.EFAULT, "getcwd", 0x10, 100)
    assert guest.ok("read", fd, 0, 0) == 0


def test_vectors(guest: Guest, here: Path) -> None:
    fd = guest.ok("openat", AT_FDCWD, "f", 0o102, 0o600)
    guest.space.write(BUFFER, b"abcdef")
    guest.put(SCRATCH, "<6Q", BUFFER, 2, 0, 0, BUFFER + 2, 4)
    assert guest.ok("writev", fd, SCRATCH, 3) == 6
    guest.ok("lseek", fd, 0, 0)
    guest.put(SCRATCH, "<6Q", BUFFER + 100, 1, BUFFER + 200, 3, BUFFER + 300, 50)
    assert guest.ok("readv", fd, SCRATCH, 3) == 6
    assert [guest.space.read(BUFFER + at, 3) for at in (100, 200, 300)] == [b"a\0\0", b"bcd", b"ef\0"]
    assert guest.ok("preadv", fd, SCRATCH, 1, 5) == 1
    assert guest.space.read(BUFFER + 100, 1) == b"f"
    assert guest.ok("pwritev", fd, SCRATCH, 2, 10) == 4
    guest.fails(errno.EINVAL, "readv", fd, SCRATCH, 1025)
    guest.fails(errno.EFAULT, "writev", fd, 0x10, 1)
    guest.put(SCRATCH, "<4Q", BUFFER, 1, 0x10, 5)
    assert guest.call("writev", fd, SCRATCH, 2) in (1, -errno.EFAULT)  # file systems differ: part of it, or nothing


def test_stat_calls_agree_with_the_host(guest: Guest, here: Path) -> None:
    file = here / "f"
    file.write_bytes(b"x" * 5000)
    os.utime(file, ns=(1_600_000_000_123_456_789, 1_700_000_000_987_654_321))
    os.symlink("f", "link")
    real = os.stat(file)
    fd = guest.ok("openat", AT_FDCWD, "f", 0, 0)
    directory = guest.ok("openat", AT_FDCWD, here, 0o200000, 0)
    form = guest.kernel.layout("stat")
    for arguments in (("fstat", fd, BUFFER), ("newfstatat", AT_FDCWD, "link", BUFFER, 0),
                      ("newfstatat", directory, "f", BUFFER, 0x100), ("newfstatat", fd, "", BUFFER, 0x1000)):
        guest.space.write(BUFFER, bytes(128))
        guest.ok(*arguments)
        found = form.unpack(guest.space.read(BUFFER, 128))
        assert (found["st_dev"], found["st_ino"], found["st_mode"], found["st_nlink"]) == (
            real.st_dev, real.st_ino, real.st_mode, 1)
        assert (found["st_size"], found["st_blocks"], found["st_blksize"]) == (5000, real.st_blocks, real.st_blksize)
        assert (found["st_mtime"], found["st_mtime_nsec"]) == (1_700_000_000, 987_654_321)
        assert (found["st_atime"], found["st_atime_nsec"]) == (1_600_000_000, 123_456_789)
    guest.ok("newfstatat", AT_FDCWD, "link", BUFFER, 0x100)
    assert stat.S_ISLNK(form.unpack(guest.space.read(BUFFER, 128))["st_mode"])
    guest.fails(errno.ENOENT, "newfstatat", AT_FDCWD, "missing", BUFFER, 0)
    guest.fails(errno.ENOENT, "newfstatat", fd, "", BUFFER, 0)
    guest.ok("statx", AT_FDCWD, "f", 0, 0x7FF, BUFFER)
    assert guest.get(BUFFER + 40, "<Q") == (5000,) and guest.get(BUFFER + 112, "<qI") == (1_700_000_000, 987_654_321)
    guest.ok("statx", fd, "", 0x1000, 0x7FF, BUFFER)
    assert guest.get(BUFFER + 32, "<Q") == (real.st_ino,)
    guest.ok("statfs", here, BUFFER)
    first = guest.space.read(BUFFER, 120)
    guest.ok("fstatfs", fd, BUFFER)
    blocks = os.statvfs(here)
    assert guest.get(BUFFER + 8, "<QQ") == (blocks.f_bsize, blocks.f_blocks)
    assert first[:24] == guest.space.read(BUFFER, 24)


def test_directories_are_listed_in_pieces(guest: Guest, here: Path) -> None:
    names = {f"file-{index}-{'x' * (index % 50)}" for index in range(300)}
    for name in names:
        (here / name).touch()
    fd = guest.ok("openat", AT_FDCWD, ".", 0o200000, 0)
    found: list[str] = []
    rounds = 0
    while count := guest.ok("getdents64", fd, BUFFER, 2048):
        rounds += 1
        data, at = guest.space.read(BUFFER, count), 0
        while at < count:
            _inode, _offset, length, kind = struct.unpack_from("<QqHB", data, at)
            found.append(data[at + 19:at + length].split(b"\0")[0].decode())
            assert kind == (4 if found[-1] in (".", "..") else 8)
            at += length
    assert sorted(found) == sorted(names | {".", ".."}) and rounds > 5
    guest.ok("lseek", fd, 0, 0)
    guest.fails(errno.EINVAL, "getdents64", fd, BUFFER, 8)
    guest.fails(errno.ENOTDIR, "getdents64", guest.ok("openat", AT_FDCWD, found[5] if "file" in found[5] else
                                                      next(iter(names)), 0, 0), BUFFER, 2048)


def test_the_tree_changes_as_asked(guest: Guest, here: Path) -> None:
    guest.ok("mkdirat", AT_FDCWD, "d", 0o755)
    guest.fails(errno.EEXIST, "mkdirat", AT_FDCWD, "d", 0o755)
    directory = guest.ok("openat", AT_FDCWD, "d", 0o200000, 0)
    guest.ok("close", guest.ok("openat", directory, "f", 0o101, 0o600))
    guest.ok("linkat", directory, "f", AT_FDCWD, "hard", 0)
    guest.ok("symlinkat", "d/f", AT_FDCWD, "soft")
    guest.ok("renameat2", AT_FDCWD, "hard", directory, "renamed", 0)
    guest.fails(errno.EEXIST, "renameat2", directory, "f", directory, "renamed", 1)
    assert os.path.samefile(here / "d/f", here / "d/renamed")
    assert guest.ok("readlinkat", AT_FDCWD, "soft", BUFFER, 2) == 2
    assert guest.ok("readlinkat", AT_FDCWD, "soft", BUFFER, 100) == 3
    assert guest.space.read(BUFFER, 3) == b"d/f"
    guest.fails(errno.EINVAL, "readlinkat", AT_FDCWD, "d/f", BUFFER, 100)
    guest.ok("fchmodat", AT_FDCWD, "soft", 0o400)
    assert stat.S_IMODE((here / "d/f").stat().st_mode) == 0o400
    guest.ok("faccessat", AT_FDCWD, "d/f", 4)
    guest.fails(errno.ENOENT, "faccessat", AT_FDCWD, "d/none", 0)
    guest.ok("fchownat", AT_FDCWD, "d/f", -1, -1, 0)
    guest.put(BUFFER, "<4q", 1, 2, 3, 4)
    guest.ok("utimensat", directory, "f", BUFFER, 0)
    assert ((here / "d/f").stat().st_atime_ns, (here / "d/f").stat().st_mtime_ns) == (1_000_000_002, 3_000_000_004)
    guest.put(BUFFER, "<4q", 0, (1 << 30) - 2, 9, 0)
    guest.ok("utimensat", directory, 0, BUFFER, 0)
    assert (here / "d").stat().st_mtime_ns == 9_000_000_000
    guest.fails(errno.EISDIR, "unlinkat", AT_FDCWD, "d", 0)
    guest.fails(errno.ENOTEMPTY, "unlinkat", AT_FDCWD, "d", 0x200)
    for name in ("d/f", "d/renamed", "soft"):
        guest.ok("unlinkat", AT_FDCWD, name, 0)
    guest.ok("fchdir", directory)
    assert guest.ok("getcwd", BUFFER, 4096) == len(os.fsencode(here / "d")) + 1
    assert guest.space.read_cstring(BUFFER) == os.fsencode(here / "d")
    guest.fails(errno.ERANGE, "getcwd", BUFFER, 3)
    guest.ok("chdir", here)
    guest.ok("unlinkat", AT_FDCWD, "d", 0x200)
    guest.fails(errno.ENOENT, "openat", AT_FDCWD, "", 0, 0)
    guest.fails(errno.ENAMETOOLONG, "openat", AT_FDCWD, b"x" * 5000, 0, 0)
    old = guest.ok("umask", 0o77)
    assert guest.ok("umask", old) == 0o77


def test_descriptors_are_numbered_copied_and_flagged(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"data")
    fd = guest.ok("openat", AT_FDCWD, "f", 0o2000000, 0)
    copy = guest.ok("dup", fd)
    assert (fd, copy) == (3, 4)
    assert guest.ok("fcntl", fd, 1, 0) == 1 and guest.ok("fcntl", copy, 1, 0) == 0
    guest.ok("fcntl", copy, 2, 1)
    assert guest.ok("fcntl", copy, 1, 0) == 1
    assert guest.ok("dup3", fd, 10, 0) == 10
    guest.fails(errno.EINVAL, "dup3", fd, fd, 0)
    guest.fails(errno.EBADF, "dup3", fd, 1 << 30, 0)
    assert guest.ok("fcntl", fd, 0, 7) == 7 and guest.ok("fcntl", fd, 1030, 7) == 8
    assert guest.ok("fcntl", 8, 1, 0) == 1
    guest.ok("read", copy, BUFFER, 2)
    assert guest.ok("lseek", 10, 0, 1) == 2  # copies share their offset
    guest.ok("close", 3)
    assert guest.ok("openat", AT_FDCWD, "f", 0o2002, 0) == 3
    assert guest.ok("fcntl", 3, 3, 0) & ~0o100000 == 0o2002
    guest.ok("fcntl", 3, 4, 0o4002)
    assert guest.ok("fcntl", 3, 3, 0) & ~0o100000 == 0o4002
    guest.fails(errno.EINVAL, "fcntl", 3, 999, 0)
    guest.kernel.descriptors.close_on_exec()
    assert guest.kernel.descriptors.numbers() == [0, 1, 2, 3, 7, 10]
    guest.ok("close_range", 3, -1, 0)
    assert guest.kernel.descriptors.numbers() == [0, 1, 2]


def test_our_own_descriptors_are_out_of_reach(guest: Guest) -> None:
    for number in range(3, 200):
        guest.fails(errno.EBADF, "fcntl", number, 1, 0)


def test_closing_what_was_handed_in_leaves_it_open() -> None:
    reading, writing = os.pipe()
    guest = Guest(stdin=reading, stdout=writing, stderr=writing)
    guest.ok("close", 1)
    guest.space.write(BUFFER, b"x")
    assert guest.ok("write", 2, BUFFER, 1) == 1
    guest.kernel.close()
    os.write(writing, b"y")
    assert os.read(reading, 10) == b"xy"
    os.close(reading)
    os.close(writing)
    guest.space.close()


def test_descriptors_run_out(guest: Guest) -> None:
    guest.put(BUFFER, "<QQ", 8, 8)
    guest.ok("prlimit64", 0, 7, BUFFER, 0)
    for _ in range(5):
        guest.ok("dup", 0)
    guest.fails(errno.EMFILE, "dup", 0)
    guest.fails(errno.EMFILE, "pipe2", BUFFER, 0)
    guest.ok("close", 7)
    guest.fails(errno.EMFILE, "pipe2", BUFFER, 0)
    assert guest.kernel.descriptors.numbers() == list(range(7))


def test_pipes_and_sigpipe(guest: Guest) -> None:
    guest.ok("pipe2", BUFFER, 0o4000)
    reading, writing = guest.get(BUFFER, "<ii")
    guest.fails(errno.EAGAIN, "read", reading, BUFFER, 10)
    guest.space.write(BUFFER, b"through")
    assert guest.ok("write", writing, BUFFER, 7) == 7
    assert guest.ok("ioctl", reading, 0x541B, SCRATCH) == 0
    assert guest.get(SCRATCH, "<i") == (7,)
    assert guest.ok("read", reading, SCRATCH, 100) == 7
    guest.ok("close", reading)
    guest.fails(errno.EPIPE, "write", writing, BUFFER, 1)
    assert guest.taken() == signal.SIGPIPE
    guest.put(SCRATCH, "<3Q", 1, 0, 0)
    guest.ok("rt_sigaction", 13, SCRATCH, 0, 8)
    guest.fails(errno.EPIPE, "write", writing, BUFFER, 1)
    assert guest.taken() == 0


def test_sendfile_and_copy_file_range(guest: Guest, here: Path) -> None:
    (here / "from").write_bytes(b"0123456789")
    source = guest.ok("openat", AT_FDCWD, "from", 0, 0)
    sink = guest.ok("openat", AT_FDCWD, "to", 0o102, 0o600)
    guest.put(BUFFER, "<q", 4)
    assert guest.ok("sendfile", sink, source, BUFFER, 3) == 3
    assert guest.get(BUFFER, "<q") == (7,)
    assert guest.ok("sendfile", sink, source, 0, 2) == 2
    assert guest.ok("copy_file_range", source, 0, sink, 0, 100, 0) == 8
    assert (here / "to").read_bytes() == b"4560123456789"


def test_extended_attributes(guest: Guest, here: Path) -> None:
    (here / "f").touch()
    try:
        os.setxattr("f", "user.probe", b"")
    except OSError:
        pytest.skip("no extended attributes here")
    guest.space.write(BUFFER, b"value")
    guest.ok("setxattr", "f", "user.name", BUFFER, 5, 0)
    assert guest.ok("getxattr", "f", "user.name", 0, 0) == 5
    guest.fails(errno.ERANGE, "getxattr", "f", "user.name", SCRATCH, 2)
    assert guest.ok("lgetxattr", "f", "user.name", SCRATCH, 100) == 5
    assert guest.space.read(SCRATCH, 5) == b"value"
    assert b"user.name\0" in guest.space.read(SCRATCH, guest.ok("listxattr", "f", SCRATCH, 1000))
    guest.ok("removexattr", "f", "user.name")
    guest.fails(errno.ENODATA, "getxattr", "f", "user.name", 0, 0)


def test_the_sysroot_wins_where_it_has_the_path(here: Path) -> None:
    (here / "root/etc").mkdir(parents=True)
    (here / "root/etc/inside").write_text("in")
    (here / "outside").write_text("out")
    guest = Guest(sysroot=here / "root")
    for path, text in (("/etc/inside", b"in"), (here / "outside", b"out")):
        fd = guest.ok("openat", AT_FDCWD, path, 0, 0)
        assert guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 10)) == text
    guest.kernel.close()
    guest.space.close()


def test_proc_describes_the_guest(guest: Guest) -> None:
    assert guest.space.read(BUFFER, guest.ok("readlinkat", AT_FDCWD, "/proc/self/exe", BUFFER, 100)) == b"/bin/prog"
    expected = {"cmdline": b"prog\0x\0", "environ": b"A=1\0", "comm": b"prog\n"}
    for name, contents in expected.items():
        for who in ("self", str(guest.kernel.pid)):
            fd = guest.ok("openat", AT_FDCWD, f"/proc/{who}/{name}", 0, 0)
            assert guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 1000)) == contents
    guest.kernel.isa = "rv64xyz"
    fd = guest.ok("openat", AT_FDCWD, "/proc/cpuinfo", 0, 0)
    text = guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 9000)).decode()
    assert text.count("processor\t: ") == len(os.sched_getaffinity(0)) == text.count("isa\t\t: rv64xyz\n")
    guest.ok("rt_sigaction", 10, SCRATCH + 8, 0, 8)
    guest.put(SCRATCH, "<QQQ", 1, 0, 0)
    guest.ok("rt_sigaction", 12, SCRATCH, 0, 8)
    fd = guest.ok("openat", AT_FDCWD, "/proc/thread-self/status", 0, 0)
    lines = guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 9000)).decode().splitlines()
    status = dict(line.split(":\t") for line in lines)
    assert (status["Name"], status["Pid"], status["Threads"]) == ("prog", str(guest.kernel.pid), "1")
    assert (status["SigIgn"], status["SigCgt"]) == (f"{1 << 11:016x}", f"{0:016x}")
    assert status["Uid"] == "\t".join([str(os.getuid())] * 4)
    fd = guest.ok("openat", AT_FDCWD, "/proc/self/stat", 0, 0)
    stat = guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 9000)).decode().split()
    assert stat[:6] == [str(guest.kernel.pid), "(prog)", "R", str(os.getppid()), str(os.getpgrp()), str(os.getsid(0))]
    assert len(stat) == 52 and stat[22] == str(0x40000)
    fd = guest.ok("openat", AT_FDCWD, "/proc/self/maps", 0, 0)
    assert b"00100000-00140000 rw-p 00000000 00:00 0" in guest.space.read(BUFFER, guest.ok("read", fd, BUFFER, 9000))
    fd = guest.ok("openat", AT_FDCWD, "/proc/self/mem", 0, 0)
    assert guest.ok("pread64", fd, BUFFER, 4, 0x100000) == 4
    guest.fails(errno.EIO, "pread64", fd, BUFFER, 4, 0x1000)
    for name in ("smaps", "pagemap", "syscall", "task/1/maps", "cpuinfo"):
        guest.fails(errno.ENOENT, "openat", AT_FDCWD, f"/proc/self/{name}", 0, 0)
    guest.fails(errno.ENOENT, "openat", AT_FDCWD, "/dev/fd/77", 0, 0)
    guest.ok("pipe2", BUFFER, 0)
    _reading, writing = guest.get(BUFFER, "<ii")
    assert guest.ok("openat", AT_FDCWD, f"/proc/self/fd/{writing}", 1, 0) > writing


# Waiting --------------------------------------------------------------------------------------------------------


def test_poll_and_select(guest: Guest) -> None:
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    guest.put(SCRATCH, "<qq", 0, 20_000_000)
    guest.put(BUFFER, "<ihhihhihh", reading, 1, 0, -1, 1, 5, reading, 4, 0)
    began = time.monotonic()
    assert guest.ok("ppoll", BUFFER, 3, SCRATCH, 0, 8) == 0
    assert time.monotonic() - began >= 0.02
    assert guest.get(SCRATCH, "<qq") == (0, 0) and guest.get(BUFFER, "<ihhihhihh")[5] == 0
    guest.put(BUFFER, "<ihhihhihh", reading, 1, 0, writing, 4, 0, 99, 1, 0)
    assert guest.ok("ppoll", BUFFER, 3, 0, 0, 8) == 2
    assert guest.get(BUFFER, "<ihhihhihh")[2::3] == (0, 4, 32)
    guest.space.write(BUFFER + 100, b"x")
    guest.ok("write", writing, BUFFER + 100, 1)
    guest.put(BUFFER, "<Q", 1 << reading)
    guest.put(BUFFER + 8, "<Q", 1 << writing)
    guest.put(SCRATCH, "<qq", 5, 0)
    assert guest.ok("pselect6", 10, BUFFER, BUFFER + 8, 0, SCRATCH, 0) == 2
    assert guest.get(BUFFER, "<QQ") == (1 << reading, 1 << writing)
    guest.put(BUFFER, "<Q", 1 << 60)
    guest.fails(errno.EBADF, "pselect6", 64, BUFFER, 0, 0, SCRATCH, 0)


def test_ctrl_c_interrupts_what_blocks(guest: Guest) -> None:
    guest.ok("pipe2", BUFFER, 0)
    reading, _writing = guest.get(BUFFER, "<ii")
    guest.put(SCRATCH, "<qq", 30, 0)
    guest.put(BUFFER, "<ihh", reading, 1, 0)
    for blocked in (("read", reading, BUFFER + 100, 1), ("ppoll", BUFFER, 1, 0, 0, 8), ("nanosleep", SCRATCH, 0)):
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            guest.call(*blocked)
        timer.join()


def test_terminal_requests_on_a_terminal_and_elsewhere(guest: Guest, here: Path) -> None:
    main, other = os.openpty()
    terminal = Guest(stdin=other, stdout=other, stderr=other)
    terminal.ok("ioctl", 0, 0x5401, BUFFER)
    flags = terminal.get(BUFFER, "<4I")
    terminal.put(BUFFER + 12, "<I", flags[3] & ~8)
    terminal.ok("ioctl", 0, 0x5402, BUFFER)
    terminal.ok("ioctl", 0, 0x5401, SCRATCH)
    assert terminal.space.read(BUFFER, 36) == terminal.space.read(SCRATCH, 36)
    terminal.put(BUFFER, "<4H", 33, 77, 0, 0)
    terminal.ok("ioctl", 0, 0x5414, BUFFER)
    terminal.ok("ioctl", 0, 0x5413, SCRATCH)
    assert terminal.get(SCRATCH, "<4H") == (33, 77, 0, 0)
    terminal.fails(errno.EFAULT, "ioctl", 0, 0x5401, 0x10)
    terminal.space.close()
    os.close(main)
    os.close(other)
    fd = guest.ok("openat", AT_FDCWD, "f", 0o102, 0o600)
    guest.fails(errno.ENOTTY, "ioctl", fd, 0x5401, BUFFER)
    guest.fails(errno.ENOTTY, "ioctl", fd, 0x12345, BUFFER)
    guest.fails(errno.EBADF, "ioctl", 99, 0x5401, BUFFER)
    guest.ok("ioctl", fd, 0x5451, 0)
    assert guest.ok("fcntl", fd, 1, 0) == 1


# Memory -----------------------------------------------------------------------------------------------------------


def test_the_break_moves_both_ways_and_never_fails(guest: Guest) -> None:
    guest.kernel.break_start = guest.kernel.break_end = 0x200000
    assert guest.ok("brk", 0) == 0x200000
    assert guest.ok("brk", 0x201234) == 0x201234
    guest.space.store(0x201000, 8, 7)
    assert guest.space.regions()[-1].name == "[heap]"
    assert guest.ok("brk", 0x201800) == 0x201800 and guest.space.load(0x201000, 8) == 7
    assert guest.ok("brk", 0x100) == 0x201800
    assert guest.ok("brk", 1 << 60) == 0x201800
    assert guest.ok("brk", 0x200800) == 0x200800
    assert guest.ok("brk", 0x202000) == 0x202000 and guest.space.load(0x201000, 8) == 0
    guest.space.map(0x203000, P, READ, fixed=True)
    assert guest.ok("brk", 0x203001) == 0x202000


def test_mmap_family(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"contents")
    fd = guest.ok("openat", AT_FDCWD, "f", 2, 0)
    start = guest.ok("mmap", 0, 8, 3, 1, fd, 0)
    assert guest.space.read(start, 8) == b"contents"
    assert guest.space.region_at(start).name == str(here / "f")  # type: ignore[union-attr]
    guest.space.store(start, 1, ord("C"))
    guest.ok("msync", start, P, 4)
    assert (here / "f").read_bytes() == b"Contents"
    guest.ok("close", fd)
    anonymous = guest.ok("mmap", 0, 3 * P, 3, 0x22, -1, 0)
    guest.ok("mprotect", anonymous + P, P, 1)
    assert guest.space.protection(anonymous + P) == READ
    guest.fails(errno.EINVAL, "mmap", 0, 0, 3, 0x22, -1, 0)
    guest.fails(errno.EINVAL, "mmap", 0, P, 3, 0x20, -1, 0)
    guest.fails(errno.EBADF, "mmap", 0, P, 3, 2, 99, 0)
    guest.fails(errno.EPERM, "mmap", 0, P, 3, 0x32, -1, 0)
    guest.fails(errno.EEXIST, "mmap", anonymous, P, 3, 0x100022, -1, 0)
    guest.fails(errno.ENOMEM, "mmap", 0, 1 << 40, 3, 0x22, -1, 0)
    guest.fails(errno.ENOMEM, "mprotect", 0x50000, P, 1)
    guest.space.store(anonymous, 8, 5)
    moved = guest.ok("mremap", anonymous, P, 4 * P, 1, 0)
    assert guest.space.load(moved, 8) == 5
    guest.ok("madvise", moved, P, 4)
    assert guest.space.load(moved, 8) == 0
    guest.fails(errno.EINVAL, "madvise", moved, P, 999)
    guest.fails(errno.ENOMEM, "madvise", 0x50000, P, 4)
    guest.ok("mincore", moved, 4 * P, BUFFER)
    assert guest.space.read(BUFFER, 5) == b"\1\0\0\0\0"  # what was touched is there
    guest.space.store(moved + 2 * P, 8, 6)
    guest.ok("mincore", moved, 4 * P, BUFFER)
    assert guest.space.read(BUFFER, 5) == b"\1\0\1\0\0"
    guest.ok("mlock", moved + 5, 10)
    guest.ok("munmap", moved, 4 * P)
    guest.fails(errno.ENOMEM, "mlock", moved, 10)
    guest.fails(errno.EINVAL, "munmap", 1, P)
    heard = []
    guest.kernel.on_flush_icache = lambda: heard.append(True)
    guest.ok("riscv_flush_icache", 0x1000, 0x2000, 0)
    assert heard == [True]
    assert guest.ok("membarrier", 0, 0, 0) > 0


def test_calls_replay_on_a_second_space(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"contents")
    fd = guest.ok("openat", AT_FDCWD, "f", 0, 0)
    other = AddressSpace()
    other.map(BUFFER, 0x40000, READ | WRITE, fixed=True)
    with guest.space.record() as effects:
        guest.ok("read", fd, BUFFER, 4)
        mapped = guest.ok("mmap", 0, P, READ, 2, fd, 0)
        guest.ok("uname", SCRATCH)
        guest.ok("mprotect", BUFFER, P, READ | EXEC)
    other.replay(effects)
    assert other.read(BUFFER, 4) == b"cont" and other.read(mapped, 8) == b"contents"
    assert other.read(SCRATCH, 390) == guest.space.read(SCRATCH, 390)
    assert other.regions() == guest.space.regions() and other.protection(BUFFER) == READ | EXEC
    other.close()


# The process --------------------------------------------------------------------------------------------------------


def test_exit(guest: Guest) -> None:
    for name, kind in (("exit", ThreadEnded), ("exit_group", ExitGroup)):
        with pytest.raises(kind) as leaving:
            guest.call(name, 0x1FF)
        assert leaving.value.status == 0xFF


def test_identity(guest: Guest) -> None:
    assert guest.ok("getpid") == guest.ok("gettid") == guest.ok("set_tid_address", BUFFER) == os.getpid()
    assert guest.ok("getppid") == os.getppid()
    assert guest.ok("getuid") == os.getuid() and guest.ok("getegid") == os.getegid()
    guest.ok("getresuid", BUFFER, BUFFER + 4, BUFFER + 8)
    assert guest.get(BUFFER, "<3I") == os.getresuid()
    count = guest.ok("getgroups", 0, 0)
    assert guest.ok("getgroups", count, BUFFER) == count
    assert guest.ok("getpgid", 0) == os.getpgid(0) and guest.ok("getsid", guest.kernel.pid) == os.getsid(0)
    guest.ok("uname", BUFFER)
    assert guest.space.read_cstring(BUFFER) == b"Linux" and guest.space.read_cstring(BUFFER + 260) == b"riscv64"


def test_limits_are_the_guests_own(guest: Guest) -> None:
    guest.ok("getrlimit", 3, BUFFER)
    guest.put(SCRATCH, "<QQ", 1 << 20, 1 << 21)
    guest.ok("prlimit64", 0, 3, SCRATCH, BUFFER + 16)
    assert guest.get(BUFFER, "<QQ") == guest.get(BUFFER + 16, "<QQ")
    guest.ok("prlimit64", guest.kernel.pid, 3, 0, BUFFER)
    assert guest.get(BUFFER, "<QQ") == (1 << 20, 1 << 21)
    guest.put(SCRATCH, "<QQ", 2, 1)
    guest.fails(errno.EINVAL, "setrlimit", 3, SCRATCH)
    guest.fails(errno.EINVAL, "getrlimit", 99, BUFFER)


def test_facts(guest: Guest) -> None:
    size = guest.ok("sched_getaffinity", 0, 128, BUFFER)
    bits = int.from_bytes(guest.space.read(BUFFER, size), "little")
    assert {index for index in range(8 * size) if bits >> index & 1} == os.sched_getaffinity(0)
    guest.ok("getrusage", 0, BUFFER)
    assert guest.get(BUFFER + 32, "<q")[0] > 1000
    guest.ok("sysinfo", BUFFER)
    assert guest.get(BUFFER + 32, "<Q")[0] * guest.get(BUFFER + 104, "<I")[0] > 1 << 24
    guest.put(BUFFER, "<4q", 4, 0, 999, 5)
    guest.ok("riscv_hwprobe", BUFFER, 2, 0, 0, 0)
    assert guest.get(BUFFER, "<4q") == (4, abi.HWPROBE[4], -1, 0)
    guest.space.write(BUFFER, b"a-rather-long-thread-name\0")
    guest.ok("prctl", 15, BUFFER, 0, 0, 0)
    guest.ok("prctl", 16, SCRATCH, 0, 0, 0)
    assert guest.space.read(SCRATCH, 16) == b"a-rather-long-t\0"
    guest.fails(errno.EINVAL, "prctl", 12345, 0, 0, 0, 0)
    guest.ok("set_robust_list", BUFFER, 24)
    guest.fails(errno.EINVAL, "set_robust_list", BUFFER, 23)


def test_futex_of_a_single_thread(guest: Guest) -> None:
    guest.put(BUFFER, "<I", 5)
    assert guest.ok("futex", BUFFER, 0x81, 1) == 0
    guest.fails(errno.EAGAIN, "futex", BUFFER, 0x80, 4, 0)
    guest.put(SCRATCH, "<qq", 0, 10_000_000)
    began = time.monotonic()
    guest.fails(errno.ETIMEDOUT, "futex", BUFFER, 0, 5, SCRATCH)
    assert time.monotonic() - began >= 0.01
    guest.fails(errno.EINVAL, "futex", BUFFER + 1, 0, 5, SCRATCH)
    guest.fails(errno.EFAULT, "futex", 0x10, 0, 5, SCRATCH)


def test_signals_to_oneself(guest: Guest) -> None:
    pid = guest.kernel.pid
    guest.ok("kill", pid, 0)
    guest.ok("kill", pid, 17)
    assert guest.taken() == 0  # SIGCHLD is ignored
    guest.ok("tgkill", pid, pid, 6)
    assert guest.taken() == 6
    guest.put(BUFFER, "<Q", 1 << 5)
    guest.ok("rt_sigprocmask", 0, BUFFER, 0, 8)
    guest.ok("tkill", pid, 6)
    guest.ok("rt_sigpending", SCRATCH, 8)
    assert guest.get(SCRATCH, "<Q") == (1 << 5,)
    assert guest.taken() == 0
    guest.ok("rt_sigprocmask", 1, BUFFER, 0, 8)
    assert guest.taken() == 6
    guest.put(BUFFER, "<3Q", 0x10000, 0x10000000, 1 << 8 | 1)
    guest.ok("rt_sigaction", 10, BUFFER, 0, 8)
    guest.ok("rt_sigaction", 10, 0, SCRATCH, 8)
    assert guest.get(SCRATCH, "<3Q") == (0x10000, 0x10000000, 1)  # SIGKILL cannot be in a mask
    guest.ok("kill", pid, 10)
    assert guest.taken() == 10
    guest.fails(errno.EINVAL, "rt_sigaction", 9, BUFFER, 0, 8)
    guest.fails(errno.EINVAL, "rt_sigaction", 65, 0, SCRATCH, 8)
    guest.fails(errno.EINVAL, "rt_sigaction", 10, 0, SCRATCH, 16)
    guest.fails(errno.ESRCH, "tgkill", pid, pid + 1, 6)
    other = threading.Thread(target=(leave := threading.Event()).wait, daemon=True)
    other.start()
    guest.fails(errno.ESRCH, "tgkill", pid, other.native_id or 0, 0)  # a thread of ours is none of the guest's
    guest.fails(errno.ESRCH, "rt_tgsigqueueinfo", pid, other.native_id or 0, 10, SCRATCH)
    leave.set()
    guest.put(BUFFER, "<QiIQ", 0x5000, 0, 0, 100)
    guest.fails(errno.ENOMEM, "sigaltstack", BUFFER, 0)
    guest.put(BUFFER, "<QiIQ", 0x5000, 0, 0, 8192)
    guest.ok("sigaltstack", BUFFER, 0)
    guest.ok("sigaltstack", 0, SCRATCH)
    assert guest.get(SCRATCH, "<QiIQ") == (0x5000, 0, 0, 8192)


# Time and randomness --------------------------------------------------------------------------------------------------


def test_clocks_follow_the_host(guest: Guest) -> None:
    guest.ok("clock_gettime", 0, BUFFER)
    assert abs(guest.get(BUFFER, "<q")[0] - time.time()) < 5
    guest.ok("gettimeofday", BUFFER, 0)
    assert abs(guest.get(BUFFER, "<q")[0] - time.time()) < 5
    guest.ok("clock_getres", 1, BUFFER)
    assert guest.get(BUFFER, "<qq") == (0, 1)
    guest.fails(errno.EINVAL, "clock_gettime", 77, BUFFER)
    guest.fails(errno.EFAULT, "clock_gettime", 0, 0x10)
    guest.put(BUFFER, "<qq", 0, 20_000_000)
    began = time.monotonic()
    guest.ok("clock_nanosleep", 1, 0, BUFFER, 0)
    assert time.monotonic() - began >= 0.02
    guest.put(BUFFER, "<qq", 0, 1_000_000_000)
    guest.fails(errno.EINVAL, "nanosleep", BUFFER, 0)
    assert guest.ok("times", BUFFER) > 0
    assert guest.ok("getrandom", BUFFER, 64, 0) == 64 and guest.space.read(BUFFER, 64) != bytes(64)
    guest.fails(errno.EINVAL, "getrandom", BUFFER, 64, 99)


def test_deterministic_runs_repeat() -> None:
    def run(seed: int) -> tuple[object, ...]:
        retired = 0
        guest = Guest(deterministic_seed=seed, clock=lambda: retired)
        seen: list[object] = [guest.ok("getpid")]
        for retired in (1_000, 2_500_000):  # noqa: B007
            guest.ok("clock_gettime", 1, BUFFER)
            seen.append(guest.get(BUFFER, "<qq"))
        guest.put(BUFFER, "<qq", 3600, 5)
        guest.ok("nanosleep", BUFFER, 0)
        guest.ok("clock_gettime", 0, BUFFER)
        seen.append(guest.get(BUFFER, "<qq"))
        guest.ok("getrandom", BUFFER, 32, 0)
        seen.append(guest.space.read(BUFFER, 32))
        guest.ok("uname", BUFFER)
        guest.ok("sysinfo", SCRATCH)
        guest.ok("getrusage", 0, SCRATCH + 200)
        seen.append(guest.space.read(BUFFER, 390) + guest.space.read(SCRATCH, 400))
        guest.space.close()
        return tuple(seen)

    first = run(1)
    assert first == run(1) != run(2)
    assert first[1:4] == ((0, 1_000), (0, 2_500_000), (1_700_003_600, 2_500_005))


def test_an_address_that_is_not_needed_may_be_bad(guest: Guest) -> None:
    """As Linux has it: at a file's end nothing is copied, and some devices take everything."""
    fd = guest.ok("memfd_create", "file", 0)
    guest.ok("write", fd, BUFFER, 8)
    for bad in (0x10, guest.ok("mmap", 0, 4096, 1, 0x22, (1 << 64) - 1, 0)):  # nothing, and a page to be read only
        for name, rest in (("read", ()), ("pread64", (8,))):
            assert guest.ok(name, fd, bad, 100, *rest) == 0
        guest.fails(errno.EFAULT, "pread64", fd, bad, 100, 7)
    null = guest.ok("openat", AT_FDCWD, "/dev/null", 2, 0)
    assert (guest.ok("read", null, 0x10, 9), guest.ok("write", null, 0x10, 9)) == (0, 9)
    guest.ok("pipe2", BUFFER, 0o4000)
    reading, writing = guest.get(BUFFER, "<ii")
    guest.fails(errno.EAGAIN, "read", reading, 0x10, 4)
    guest.fails(errno.EFAULT, "write", writing, 0x10, 4)
    guest.fails(errno.EFAULT, "read", fd, (1 << 64) - 1, 4)
