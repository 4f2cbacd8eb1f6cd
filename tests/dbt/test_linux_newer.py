"""Newer and rarer calls on files, memory and the machine, called directly."""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path

import pytest
from support.kernel import AT_FDCWD, BAD, BUFFER, SCRATCH, Guest

import guests.riscv.linux as abi
from dbt.linux.kernel import HANDLERS, REFUSED
from dbt.memory import PAGE_SIZE, READ, WRITE, AddressSpace

P = PAGE_SIZE


# Files --------------------------------------------------------------------------------------------------------


def how(guest: Guest, flags: int = 0, mode: int = 0, resolve: int = 0) -> tuple[int, int]:
    guest.put(SCRATCH, "<4Q", flags, mode, resolve, 0)
    return SCRATCH, 24


def test_openat2_resolves_as_it_is_told(guest: Guest, here: Path) -> None:
    (here / "d/etc").mkdir(parents=True)
    (here / "d/etc/f").write_text("inside")
    (here / "outside").write_text("out")
    (here / "d/link").symlink_to("/etc/f")
    directory = guest.ok("openat", AT_FDCWD, "d", 0o200000, 0)
    fd = guest.ok("openat2", directory, "link", *how(guest, 0o2000000, resolve=0x10))  # IN_ROOT
    assert guest.ok("read", fd, BUFFER, 10) == 6 and guest.ok("fcntl", fd, 1, 0) == 1
    assert guest.ok("read", guest.ok("openat2", directory, "/etc/f", *how(guest, resolve=0x10)), BUFFER, 10) == 6
    guest.fails(errno.EXDEV, "openat2", directory, "../outside", *how(guest, resolve=8))  # BENEATH
    guest.fails(errno.ELOOP, "openat2", directory, "link", *how(guest, resolve=4))  # NO_SYMLINKS
    made = guest.ok("openat2", directory, "new", *how(guest, 0o101, 0o640))
    assert guest.ok("fcntl", made, 1, 0) == 0 and (here / "d/new").stat().st_mode & 0o777 == 0o640 & ~_umask()
    guest.fails(errno.EINVAL, "openat2", directory, "link", *how(guest, 0, 0o600))  # a mode without O_CREAT
    guest.fails(errno.EINVAL, "openat2", directory, "link", *how(guest, 1 << 40))
    guest.fails(errno.EINVAL, "openat2", directory, "link", *how(guest, resolve=1 << 20))
    guest.fails(errno.EINVAL, "openat2", directory, "link", SCRATCH, 16)
    guest.put(SCRATCH, "<4Q", 0, 0, 0, 1)
    guest.fails(errno.E2BIG, "openat2", directory, "link", SCRATCH, 32)
    guest.fails(errno.EFAULT, "openat2", directory, "link", BAD, 24)
    guest.fails(errno.EFAULT, "openat2", directory, BAD, *how(guest))
    guest.fails(errno.EBADF, "openat2", 99, "link", *how(guest))
    proc = guest.ok("openat2", AT_FDCWD, "/proc/self/comm", *how(guest))
    assert guest.ok("read", proc, BUFFER, 10) == 5 and guest.space.read(BUFFER, 5) == b"prog\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_handles(guest: Guest, here: Path) -> None:
    (here / "f").write_text("x")
    guest.put(BUFFER, "<Ii", 0, 0)
    guest.fails(errno.EOVERFLOW, "name_to_handle_at", AT_FDCWD, "f", BUFFER, SCRATCH, 0)
    needed = guest.get(BUFFER, "<I")[0]
    assert 0 < needed <= 128
    guest.ok("name_to_handle_at", AT_FDCWD, "f", BUFFER, SCRATCH, 0)
    assert any(guest.space.read(BUFFER + 8, needed))
    directory = guest.ok("openat", AT_FDCWD, ".", 0o200000, 0)
    fd = guest.call("open_by_handle_at", directory, BUFFER, 0)
    if fd != -errno.EPERM and fd != -errno.ESTALE:
        assert os.path.samestat(os.fstat(guest.kernel.fd(fd)), os.stat("f"))
    guest.put(BUFFER, "<Ii", 200, 0)
    guest.fails(errno.EINVAL, "name_to_handle_at", AT_FDCWD, "f", BUFFER, SCRATCH, 0)
    guest.fails(errno.EFAULT, "name_to_handle_at", AT_FDCWD, "f", BAD, SCRATCH, 0)
    guest.fails(errno.EFAULT, "open_by_handle_at", directory, BAD, 0)


def test_attributes_of_files_in_a_directory(guest: Guest, here: Path) -> None:
    (here / "f").touch()
    try:
        os.setxattr("f", "user.probe", b"")
    except OSError:
        pytest.skip("no extended attributes here")
    directory = guest.ok("openat", AT_FDCWD, ".", 0o200000, 0)
    fd = guest.ok("openat", AT_FDCWD, "f", 0, 0)
    guest.space.write(BUFFER, b"value")
    guest.put(SCRATCH, "<QII", BUFFER, 5, 0)
    guest.ok("setxattrat", directory, "f", 0, "user.name", SCRATCH, 16)
    guest.put(SCRATCH, "<QII", BUFFER + 100, 100, 0)
    assert guest.ok("getxattrat", fd, "", 0x1000, "user.name", SCRATCH, 16) == 5
    assert guest.space.read(BUFFER + 100, 5) == b"value"
    count = guest.ok("listxattrat", AT_FDCWD, "f", 0x100, BUFFER, 1000)
    assert b"user.name\0" in guest.space.read(BUFFER, count)
    guest.ok("removexattrat", directory, "f", 0, "user.name")
    guest.fails(errno.ENODATA, "getxattrat", directory, "f", 0, "user.name", SCRATCH, 16)
    guest.fails(errno.EINVAL, "getxattrat", directory, "f", 1, "user.name", SCRATCH, 16)
    guest.fails(errno.EINVAL, "getxattrat", directory, "f", 0, "user.name", SCRATCH, 8)
    guest.fails(errno.EFAULT, "setxattrat", directory, "f", 0, "user.name", BAD, 16)


def test_only_what_may_sleep_can_be_interrupted(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"x")
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    number = guest.kernel.descriptors
    prompt = {name: guest.ok("openat", AT_FDCWD, name, 0, 0) for name in ("f", "/dev/null", "/dev/zero")}
    assert [number.to_move(fd)[1] for fd in (*prompt.values(), reading, writing)] == [True, True, True, False, False]
    assert number.to_move(guest.ok("openat", AT_FDCWD, "/dev/random", 0, 0))[1] is False
    guest.ok("dup3", reading, prompt["f"], 0)
    assert number.to_move(prompt["f"])[1] is False  # another file has the number now


def test_commands_of_fcntl(guest: Guest, here: Path) -> None:
    fd = guest.ok("openat", AT_FDCWD, "f", 0o102, 0o600)
    guest.fails(errno.EAGAIN, "fcntl", fd, 1024, 0)  # a lease for reading while it is open for writing
    reading = guest.ok("openat", AT_FDCWD, "f", 0, 0)
    guest.ok("close", fd)
    assert guest.ok("fcntl", reading, 1024, 0) == 0 and guest.ok("fcntl", reading, 1025, 0) == 0  # F_RDLCK is 0
    guest.ok("fcntl", reading, 1024, 2)
    assert guest.ok("fcntl", reading, 1025, 0) == 2
    directory = guest.ok("openat", AT_FDCWD, ".", 0o200000, 0)
    guest.ok("fcntl", directory, 10, 0)  # SETSIG
    guest.ok("fcntl", directory, 1026, 0)  # NOTIFY, of nothing
    guest.put(BUFFER, "<ii", 1, os.getpid())  # F_OWNER_PID
    guest.ok("fcntl", reading, 15, BUFFER)
    guest.ok("fcntl", reading, 16, SCRATCH)
    assert guest.get(SCRATCH, "<ii") == (1, os.getpid()) and guest.ok("fcntl", reading, 9, 0) == os.getpid()
    guest.put(BUFFER, "<Q", 3)
    guest.ok("fcntl", reading, 1036, BUFFER)
    guest.ok("fcntl", reading, 1035, SCRATCH)
    assert guest.get(SCRATCH, "<Q") == (3,)
    same = guest.call("fcntl", reading, 1027, guest.ok("dup", reading))
    assert same in (1, -errno.EINVAL)  # since Linux 6.10
    guest.fails(errno.EFAULT, "fcntl", reading, 15, BAD)
    guest.fails(errno.EFAULT, "fcntl", reading, 16, BAD)
    guest.fails(errno.EFAULT, "fcntl", reading, 5, BAD)


# Transfers ------------------------------------------------------------------------------------------------------


def test_vmsplice_goes_both_ways(guest: Guest) -> None:
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    guest.space.write(BUFFER, b"contents")
    guest.put(SCRATCH, "<4Q", BUFFER, 3, BUFFER + 3, 5)
    assert guest.ok("vmsplice", writing, SCRATCH, 2, 0) == 8
    guest.put(SCRATCH, "<2Q", BUFFER + 100, 100)
    other = AddressSpace()
    other.map(BUFFER, 0x40000, READ | WRITE, fixed=True)
    with guest.space.record() as effects:
        assert guest.ok("vmsplice", reading, SCRATCH, 1, 0) == 8
    other.replay(effects)
    assert guest.space.read(BUFFER + 100, 8) == other.read(BUFFER + 100, 8) == b"contents"
    other.close()
    guest.fails(errno.EFAULT, "vmsplice", writing, BAD, 1, 0)
    guest.fails(errno.EBADF, "vmsplice", 99, SCRATCH, 1, 0)


def test_a_process_reads_and_writes_its_own_memory(guest: Guest) -> None:
    pid = guest.kernel.pid
    guest.space.write(BUFFER, b"abcdefgh")
    guest.put(SCRATCH, "<6Q", BUFFER + 100, 3, BUFFER + 200, 10, BUFFER, 8)
    assert guest.ok("process_vm_readv", pid, SCRATCH, 2, SCRATCH + 32, 1, 0) == 8
    assert guest.space.read(BUFFER + 100, 3) == b"abc" and guest.space.read(BUFFER + 200, 5) == b"defgh"
    assert guest.ok("process_vm_writev", pid, SCRATCH, 1, SCRATCH + 32, 1, 0) == 3
    guest.fails(errno.EINVAL, "process_vm_readv", pid, SCRATCH, 1, SCRATCH, 1, 1)
    guest.fails(errno.EFAULT, "process_vm_readv", pid, BAD, 1, SCRATCH, 1, 0)
    guest.fails(errno.EPERM, "process_vm_readv", os.getppid(), SCRATCH, 1, SCRATCH, 1, 0)
    guest.fails(errno.ESRCH, "process_vm_readv", 1 << 30, SCRATCH, 1, SCRATCH, 1, 0)


def test_reads_and_writes_with_flags(guest: Guest, here: Path) -> None:
    fd = guest.ok("openat", AT_FDCWD, "f", 0o102, 0o600)
    guest.space.write(BUFFER, b"abcdef")
    guest.put(SCRATCH, "<2Q", BUFFER, 6)
    assert guest.ok("pwritev2", fd, SCRATCH, 1, 0, 0, 4) == 6  # RWF_SYNC
    assert guest.ok("pwritev2", fd, SCRATCH, 1, 0, 0, 16) == 6  # RWF_APPEND
    assert (here / "f").read_bytes() == b"abcdefabcdef"
    assert guest.ok("preadv2", fd, SCRATCH, 1, 8, 0, 0) == 4 and guest.space.read(BUFFER, 4) == b"cdef"
    guest.ok("lseek", fd, 10, 0)
    assert guest.ok("preadv2", fd, SCRATCH, 1, -1, 0, 0) == 2
    guest.fails(errno.EOPNOTSUPP, "preadv2", fd, SCRATCH, 1, 0, 0, 1 << 20)


# Memory ---------------------------------------------------------------------------------------------------------


def test_flags_of_mmap(guest: Guest, here: Path) -> None:
    for flags in (0x20022, 0x8022, 0x2022, 0x122):  # STACK, POPULATE, LOCKED, GROWSDOWN
        assert guest.ok("mmap", 0, P, 3, flags, -1, 0)
    guest.fails(errno.ENOMEM, "mmap", 0, P, 3, 0x40022, -1, 0)  # HUGETLB
    guest.fails(errno.EINVAL, "mmap", 0, P, 3, 0x23, -1, 0)  # validated flags are for files
    (here / "f").write_bytes(bytes(P))
    fd = guest.ok("openat", AT_FDCWD, "f", 2, 0)
    guest.fails(errno.EOPNOTSUPP, "mmap", 0, P, 3, 0x80003, fd, 0)  # SYNC
    assert guest.ok("mmap", 0, P, 3, 0x8003, fd, 0)
    shared = guest.ok("mmap", 0, P, 3, 0x21, -1, 0)
    if os.fork() == 0:
        guest.space.store(shared, 8, 42)
        os._exit(0)
    os.wait()
    assert guest.space.load(shared, 8) == 42


def test_mremap_that_leaves_the_old_range(guest: Guest) -> None:
    old = guest.ok("mmap", 0, 2 * P, 3, 0x22, -1, 0)
    guest.space.store(old + P, 8, 7)
    new = guest.ok("mremap", old, 2 * P, 2 * P, 5, 0)
    assert new != old and guest.space.load(new + P, 8) == 7 and guest.space.load(old + P, 8) == 0
    there = guest.ok("mremap", new, 2 * P, 2 * P, 7, 0x5000_0000)
    assert there == 0x5000_0000 and guest.space.load(there + P, 8) == 7 and guest.space.load(new + P, 8) == 0
    guest.fails(errno.EINVAL, "mremap", old, 2 * P, 3 * P, 5, 0)
    guest.fails(errno.EINVAL, "mremap", old, 2 * P, 2 * P, 4, 0)
    shared = guest.ok("mmap", 0, P, 3, 0x21, -1, 0)
    guest.fails(errno.EINVAL, "mremap", shared, P, P, 5, 0)


def test_a_mapping_shows_another_part_of_its_file(guest: Guest, here: Path) -> None:
    (here / "f").write_bytes(b"".join(bytes([index]) * P for index in range(4)))
    fd = guest.ok("openat", AT_FDCWD, "f", 2, 0)
    other = AddressSpace()
    other.map(BUFFER, 0x40000, READ | WRITE, fixed=True)
    with guest.space.record() as effects:
        start = guest.ok("mmap", 0, 3 * P, 3, 1, fd, 0)
        guest.ok("remap_file_pages", start + P, P, 0, 3, 0)
    other.replay(effects)
    assert other.regions() == guest.space.regions() and other.load(start + P, 1) == 3
    other.close()
    assert [guest.space.load(start + index * P, 1) for index in range(3)] == [0, 3, 2]
    guest.space.store(start + P, 1, 9)
    guest.ok("msync", start + P, P, 4)
    assert (here / "f").read_bytes()[3 * P] == 9
    assert [region.offset for region in guest.space.regions() if region.file] == [0, 3 * P, 2 * P]
    guest.fails(errno.EINVAL, "remap_file_pages", start, P, 1, 0, 0)
    guest.fails(errno.EINVAL, "remap_file_pages", BUFFER, P, 0, 0, 0)
    guest.fails(errno.EINVAL, "remap_file_pages", start, 0, 0, 0, 0)


def test_sealed_memory_stays(guest: Guest) -> None:
    start = guest.ok("mmap", 0, 3 * P, 3, 0x22, -1, 0)
    guest.ok("mseal", start + P, P, 0)
    for call in (("munmap", start, 3 * P), ("mprotect", start + P, P, 1), ("mremap", start + P, P, 2 * P, 1, 0),
                 ("mmap", start, 3 * P, 3, 0x32, -1, 0)):
        guest.fails(errno.EPERM, *call)
    guest.ok("munmap", start, P)
    guest.ok("mprotect", start + 2 * P, P, 1)
    guest.space.store(start + P, 8, 1)
    guest.fails(errno.EINVAL, "mseal", start + 1, P, 0)
    guest.fails(errno.EINVAL, "mseal", start + P, P, 1)
    guest.fails(errno.ENOMEM, "mseal", start, P, 0)


def test_advice_that_the_host_follows(guest: Guest) -> None:
    private = guest.ok("mmap", 0, P, 3, 0x22, -1, 0)
    shared = guest.ok("mmap", 0, P, 3, 0x21, -1, 0)
    guest.space.store(private, 8, 1)
    guest.space.store(shared, 8, 1)
    guest.ok("madvise", private, P, 18)  # WIPEONFORK
    guest.fails(errno.EINVAL, "madvise", shared, P, 18)
    child = os.fork()
    if child == 0:
        os._exit(guest.space.load(private, 8) * 2 + guest.space.load(shared, 8))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    other = AddressSpace()
    other.map(shared, P, READ | WRITE, fixed=True)
    other.store(shared, 8, 1)
    with guest.space.record() as effects:
        guest.ok("madvise", shared, P, 9)  # REMOVE
    other.replay(effects)
    assert guest.space.load(shared, 8) == other.load(shared, 8) == 0
    other.close()
    guest.fails(errno.EINVAL, "madvise", private, P, 9)
    process = guest.ok("pidfd_open", guest.kernel.pid, 0)
    guest.put(SCRATCH, "<2Q", private, P)
    assert guest.ok("process_madvise", process, SCRATCH, 1, 20, 0) == P
    guest.fails(errno.EINVAL, "process_madvise", process, SCRATCH, 1, 4, 0)
    guest.fails(errno.EBADF, "process_madvise", 0, SCRATCH, 1, 20, 0)
    guest.fails(errno.EFAULT, "process_madvise", process, BAD, 1, 20, 0)


def test_protection_that_grows_with_the_stack(guest: Guest) -> None:
    guest.space.map(0x6000_0000, 4 * P, READ | WRITE, fixed=True, name="[stack]")
    guest.ok("mprotect", 0x6000_2000, P, 0x01000007)
    assert [guest.space.protection(0x6000_0000 + index * P) for index in range(4)] == [7, 7, 7, 3]
    guest.fails(errno.EINVAL, "mprotect", BUFFER, P, 0x01000003)
    guest.fails(errno.EINVAL, "mprotect", BUFFER, P, 0x100)
    guest.fails(errno.EINVAL, "mprotect", 0x6000_2000, P, 0x03000003)


def test_barriers_are_for_who_is_registered(guest: Guest) -> None:
    guest.fails(errno.EPERM, "membarrier", 8, 0, 0)
    guest.ok("membarrier", 16, 0, 0)
    guest.ok("membarrier", 8, 0, 0)
    guest.fails(errno.EPERM, "membarrier", 32, 0, 0)
    guest.ok("membarrier", 1, 0, 0)
    guest.fails(errno.EINVAL, "membarrier", 3, 0, 0)


# The machine ------------------------------------------------------------------------------------------------------


def test_what_a_guest_may_not_do_to_the_machine(guest: Guest) -> None:
    for name in ("reboot", "swapon", "swapoff", "kexec_load", "init_module", "delete_module", "acct", "settimeofday",
                 "clock_settime", "chroot"):
        guest.fails(errno.EPERM, name)


def test_capabilities_are_the_hosts(guest: Guest) -> None:
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    guest.put(BUFFER, "<Ii", 0x20080522, 0)
    guest.ok("capget", BUFFER, SCRATCH)
    words = guest.get(SCRATCH, "<6I")
    assert words[0] | words[3] << 32 == int(status["CapEff"], 16)
    assert words[1] | words[4] << 32 == int(status["CapPrm"], 16)
    guest.ok("capset", BUFFER, SCRATCH)
    guest.put(BUFFER, "<Ii", 7, 0)
    guest.fails(errno.EINVAL, "capget", BUFFER, SCRATCH)
    assert guest.get(BUFFER, "<I") == (0x20080522,)
    guest.fails(errno.EFAULT, "capget", BAD, SCRATCH)
    guest.fails(errno.EFAULT, "capget", BUFFER, BAD)


@pytest.mark.parametrize("seed", [None, 1])
def test_the_clock_is_read_and_not_set(seed: int | None) -> None:
    guest = Guest(deterministic_seed=seed)
    assert guest.ok("adjtimex", BUFFER) in range(6)
    now = 1_700_000_000 if seed else time.time()
    assert abs(guest.get(BUFFER + 72, "<q")[0] - now) < 5
    assert guest.ok("clock_adjtime", 0, BUFFER) in range(6)
    guest.put(BUFFER, "<I", 1)
    guest.fails(errno.EPERM, "adjtimex", BUFFER)
    guest.fails(errno.EFAULT, "adjtimex", BAD)
    guest.space.close()


def test_kcmp_tells_copies_from_others(guest: Guest) -> None:
    pid = guest.kernel.pid
    guest.ok("pipe2", BUFFER, 0)
    reading, writing = guest.get(BUFFER, "<ii")
    copy = guest.ok("dup", reading)
    assert guest.ok("kcmp", pid, pid, 0, reading, copy) == 0
    assert guest.ok("kcmp", pid, pid, 0, reading, writing) in (1, 2)
    guest.fails(errno.EBADF, "kcmp", pid, pid, 0, reading, 99)
    assert guest.ok("kcmp", pid, pid, 1, 0, 0) == 0


def test_hwprobe_tells_which_processors(guest: Guest) -> None:
    everything = [*range(14), 99]
    guest.space.write(BUFFER, b"".join(struct.pack("<qQ", key, 7) for key in everything))
    guest.ok("riscv_hwprobe", BUFFER, len(everything), 0, 0, 0)
    for index, key in enumerate(everything):
        assert guest.get(BUFFER + 16 * index, "<qQ") == ((key, abi.HWPROBE[key]) if key < 14 else (-1, 0))
    online = sum(1 << number for number in os.sched_getaffinity(0))
    for pairs, expected in (([(3, 1), (4, 3)], online), ([(4, 1 << 63)], 0), ([(6, 128)], 0), ([(99, 0)], 0)):
        guest.space.write(BUFFER, b"".join(struct.pack("<qQ", *pair) for pair in pairs))
        guest.put(SCRATCH, "<Q", 0)
        guest.ok("riscv_hwprobe", BUFFER, len(pairs), 8, SCRATCH, 1)
        assert guest.get(SCRATCH, "<Q") == (expected,), pairs
    guest.fails(errno.EINVAL, "riscv_hwprobe", BUFFER, 1, 0, 0, 1)
    guest.fails(errno.EFAULT, "riscv_hwprobe", BAD, 1, 0, 0, 0)


def test_personality_and_affinity_are_kept(guest: Guest) -> None:
    assert guest.ok("personality", 0x0040000) == 0
    assert guest.ok("personality", 0xFFFFFFFF) == 0x0040000
    first = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    guest.put(BUFFER, "<Q", 1 << first)
    try:
        guest.ok("sched_setaffinity", 0, 8, BUFFER)
        assert guest.ok("sched_getaffinity", 0, 128, BUFFER) == 8 and guest.get(BUFFER, "<Q") == (1 << first,)
    finally:
        os.sched_setaffinity(0, before)
    guest.put(BUFFER, "<Q", 0)
    guest.fails(errno.EINVAL, "sched_setaffinity", 0, 8, BUFFER)
    guest.fails(errno.ESRCH, "sched_getaffinity", 1 << 30, 8, BUFFER)


def test_mounts_by_the_hosts_privileges(guest: Guest, here: Path) -> None:
    fd = guest.call("fsopen", "tmpfs", 1)
    if fd < 0:
        assert fd == -errno.EPERM
        pytest.skip("only an administrator mounts")
    assert guest.ok("fcntl", fd, 1, 0) == 1
    guest.ok("fsconfig", fd, 1, "size", "1m", 0)  # SET_STRING
    guest.fails(errno.EINVAL, "fsconfig", fd, 1, "nonesuch", "1", 0)
    guest.fails(errno.EBADF, "fsconfig", fd, 5, "x", 0, 99)  # SET_FD
    guest.ok("fsconfig", fd, 6, 0, 0, 0)  # CREATE
    mounted = guest.ok("fsmount", fd, 1, 0)
    guest.put(BUFFER, "<4Q", 1, 0, 0, 0)  # read-only
    guest.ok("mount_setattr", mounted, "", 0x1000, BUFFER, 32)
    guest.fails(errno.EROFS, "openat", mounted, "f", 0o102, 0o600)
    guest.fails(errno.EINVAL, "mount_setattr", mounted, "", 0x1000, BUFFER, 8)
    guest.fails(errno.EFAULT, "mount_setattr", mounted, "", 0x1000, BAD, 32)
    guest.put(BUFFER, "<4Q", 0x100000, 0, 0, 99)  # an identity mapping of a descriptor that is not there
    guest.fails(errno.EBADF, "mount_setattr", mounted, "", 0x1000, BUFFER, 32)


def test_what_is_refused_says_why(guest: Guest) -> None:
    assert not set(REFUSED) & set(HANDLERS) and set(REFUSED) <= set(abi.CALLS.values())
    for name in REFUSED:
        guest.fails(errno.ENOSYS, name)
    assert not guest.said and all(REFUSED.values())
