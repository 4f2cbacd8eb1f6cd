"""System V objects and POSIX message queues, called directly; the host and a child of ours look at them, too."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator

import pytest
from support.kernel import BAD, BUFFER, SCRATCH, Guest

from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, AddressSpace

P = PAGE_SIZE
RMID, SET, STAT, INFO = 0, 1, 2, 3


@pytest.fixture
def segment(guest: Guest) -> Iterator[int]:
    made = guest.ok("shmget", 0, 3 * P - 100, 0o600)
    yield made
    guest.call("shmctl", made, RMID, 0)


@pytest.fixture
def semaphores(guest: Guest) -> Iterator[int]:
    made = guest.ok("semget", 0, 3, 0o600)
    yield made
    guest.call("semctl", made, 0, RMID, 0)


def test_a_segment_is_one_memory_at_two_addresses_and_in_two_processes(guest: Guest, segment: int) -> None:
    first = guest.ok("shmat", segment, 0, 0)
    second = guest.ok("shmat", segment, 0x5000_0000, 0o10000)
    assert second == 0x5000_0000 and guest.space.protection(second) == READ
    guest.space.store(first + 2 * P, 8, 77)
    assert guest.space.load(second + 2 * P, 8) == 77
    child = os.fork()
    if child == 0:
        guest.space.store(first, 8, 55)
        os._exit(0)
    os.waitpid(child, 0)
    assert guest.space.load(second, 8) == 55
    guest.ok("shmctl", segment, STAT, BUFFER)
    assert guest.get(BUFFER + 48, "<Q") == (3 * P - 100,)
    assert guest.get(BUFFER + 88, "<Q") == (2,)  # attached twice
    region = guest.space.region_at(first)
    assert region is not None and region.name == "/SYSV00000000" and region.shared
    guest.ok("mprotect", first + P, P, READ)
    guest.ok("shmdt", first)  # all of its parts
    assert guest.space.is_free(first, first + 3 * P)
    guest.fails(errno.EINVAL, "shmdt", first)
    guest.ok("shmdt", second)
    guest.ok("shmctl", segment, STAT, BUFFER)
    assert guest.get(BUFFER + 88, "<Q") == (0,)


def test_where_a_segment_may_go(guest: Guest, segment: int) -> None:
    guest.fails(errno.EINVAL, "shmat", segment, 0x5000_0010, 0)
    assert guest.ok("shmat", segment, 0x5000_0010, 0o20000) == 0x5000_0000
    guest.fails(errno.EINVAL, "shmat", segment, 0x5000_1000, 0)  # taken
    assert guest.ok("shmat", segment, 0x5000_1000, 0o40000) == 0x5000_1000
    assert guest.space.protection(guest.ok("shmat", segment, 0, 0o100000)) == READ | WRITE | EXEC
    guest.fails(errno.EINVAL, "shmat", 1 << 30, 0, 0)
    guest.fails(errno.EINVAL, "shmat", segment, 0, 0o40000)


def test_an_attached_segment_replays(guest: Guest, segment: int) -> None:
    there = guest.ok("shmat", segment, 0, 0)
    guest.space.store(there, 8, 99)
    other = AddressSpace()
    with guest.space.record() as effects:
        second = guest.ok("shmat", segment, 0, 0)
    other.replay(effects)
    assert other.load(second, 8) == 99
    other.close()


def test_what_controls_segments_and_queues(guest: Guest, segment: int) -> None:
    guest.ok("shmctl", segment, STAT | 0x100, BUFFER)
    key, uid, _gid, _cuid, _cgid, mode = guest.get(BUFFER, "<6I")
    assert (key, uid, mode) == (0, os.getuid(), 0o600)
    guest.put(BUFFER + 20, "<I", 0o640)
    guest.ok("shmctl", segment, SET, BUFFER)
    guest.ok("shmctl", segment, STAT, SCRATCH)
    assert guest.get(SCRATCH + 20, "<I") == (0o640,)
    assert guest.ok("shmctl", 0, INFO, BUFFER) >= 0 and guest.get(BUFFER, "<Q")[0] > 0
    guest.fails(errno.EINVAL, "shmctl", segment, 99, BUFFER)
    guest.fails(errno.EFAULT, "shmctl", segment, STAT, BAD)
    guest.fails(errno.EFAULT, "shmctl", segment, SET, BAD)
    guest.fails(errno.EINVAL, "msgctl", 0, 99, BUFFER)
    assert guest.ok("msgctl", 0, INFO, BUFFER) >= 0


def test_semaphores_count(guest: Guest, semaphores: int) -> None:
    guest.put(BUFFER, "<3H", 1, 2, 3)
    guest.ok("semctl", semaphores, 0, 17, BUFFER)  # SETALL
    guest.put(BUFFER, "<HhhHhh", 0, -1, 0, 2, 4, 0)
    guest.ok("semop", semaphores, BUFFER, 2)
    guest.ok("semctl", semaphores, 0, 13, SCRATCH)  # GETALL
    assert guest.get(SCRATCH, "<3H") == (0, 2, 7)
    guest.ok("semctl", semaphores, 1, 16, 9)  # SETVAL
    assert guest.ok("semctl", semaphores, 1, 12, 0) == 9  # GETVAL
    assert guest.ok("semctl", semaphores, 1, 11, 0) == os.getpid()  # GETPID
    guest.put(BUFFER, "<Hhh", 0, -1, 0o4000)
    guest.fails(errno.EAGAIN, "semop", semaphores, BUFFER, 1)
    guest.put(BUFFER, "<Hhh", 0, -1, 0)
    guest.put(SCRATCH, "<qq", 0, 20_000_000)
    began = time.monotonic()
    guest.fails(errno.EAGAIN, "semtimedop", semaphores, BUFFER, 1, SCRATCH)
    assert time.monotonic() - began >= 0.02
    guest.ok("semctl", semaphores, 0, STAT, BUFFER)
    last, changed, count = guest.get(BUFFER + 48, "<qqQ")
    assert count == 3 and abs(last - time.time()) < 10 and abs(changed - time.time()) < 10
    guest.put(BUFFER + 20, "<I", 0o644)
    guest.ok("semctl", semaphores, 0, SET, BUFFER)
    guest.ok("semctl", semaphores, 0, STAT, SCRATCH)
    assert guest.get(SCRATCH + 20, "<I") == (0o644,)
    assert guest.ok("semctl", 0, 0, INFO, BUFFER) >= 0 and guest.get(BUFFER + 4, "<i")[0] > 0


@pytest.mark.parametrize(("code", "arguments"), [
    (errno.EINVAL, (0, 99, BUFFER)), (errno.EFAULT, (0, 13, BAD)), (errno.EFAULT, (0, 17, BAD)),
    (errno.EFAULT, (0, STAT, BAD)), (errno.EFAULT, (0, SET, BAD)), (errno.EINVAL, (7, 12, 0))])
def test_semaphore_errors(guest: Guest, semaphores: int, code: int, arguments: tuple[int, ...]) -> None:
    guest.fails(code, "semctl", semaphores, *arguments)
    guest.fails(errno.EFAULT, "semop", semaphores, BAD, 1)
    guest.fails(errno.EINVAL, "semop", 1 << 30, BUFFER, 1)


def test_a_system_v_queue_keeps_messages_by_type(guest: Guest) -> None:
    queue = guest.ok("msgget", 0, 0o600)
    try:
        for kind, contents in ((5, b"message"), (6, b"other")):
            guest.space.write(BUFFER, struct.pack("<q", kind) + contents)
            guest.ok("msgsnd", queue, BUFFER, len(contents), 0)
        assert guest.ok("msgrcv", queue, SCRATCH, 100, 6, 0o4000) == 5
        assert guest.space.read(SCRATCH, 13) == struct.pack("<q", 6) + b"other"
        guest.fails(errno.ENOMSG, "msgrcv", queue, SCRATCH, 100, 6, 0o4000)
        guest.fails(errno.E2BIG, "msgrcv", queue, SCRATCH, 3, 0, 0o4000)
        guest.ok("msgctl", queue, STAT, BUFFER)
        assert guest.get(BUFFER + 80, "<Q") == (1,)  # msg_qnum
        guest.fails(errno.EFAULT, "msgsnd", queue, BAD, 1, 0)
        guest.fails(errno.EFAULT, "msgrcv", queue, BAD, 100, 0, 0o4000)
    finally:
        guest.ok("msgctl", queue, RMID, 0)
    guest.fails(errno.EINVAL, "msgsnd", queue, BUFFER, 1, 0)


def test_a_posix_queue(guest: Guest) -> None:
    name = f"dragoman-test-{os.getpid()}"
    guest.put(BUFFER, "<4q32x", 0, 4, 16, 0)
    queue = guest.call("mq_open", name, 0o302, 0o600, BUFFER)
    if queue == -errno.ENOSYS:
        pytest.skip("the host has no POSIX message queues")
    assert queue >= 0, errno.errorcode[-queue]
    try:
        guest.fails(errno.EEXIST, "mq_open", name, 0o302, 0o600, 0)
        guest.put(SCRATCH, "<qq", 1, 0)
        for priority, contents in ((1, b"low"), (9, b"high")):
            guest.space.write(BUFFER, contents)
            guest.ok("mq_timedsend", queue, BUFFER, len(contents), priority, SCRATCH)
        assert guest.ok("mq_timedreceive", queue, BUFFER, 16, BUFFER + 100, 0) == 4
        assert guest.space.read(BUFFER, 4) == b"high" and guest.get(BUFFER + 100, "<I") == (9,)
        guest.ok("mq_getsetattr", queue, 0, BUFFER)
        assert guest.get(BUFFER, "<4q")[1:] == (4, 16, 1)
        guest.fails(errno.EMSGSIZE, "mq_timedreceive", queue, BUFFER, 3, 0, 0)
        guest.put(BUFFER, "<Qii48x", 0, 0, 1)  # SIGEV_NONE
        guest.ok("mq_notify", queue, BUFFER)
        guest.fails(errno.EBUSY, "mq_notify", queue, BUFFER)
        guest.ok("mq_notify", queue, 0)
        guest.fails(errno.EFAULT, "mq_notify", queue, BAD)
        guest.ok("mq_timedreceive", queue, BUFFER, 16, 0, 0)
        guest.fails(errno.ETIMEDOUT, "mq_timedreceive", queue, BUFFER, 16, 0, SCRATCH)
    finally:
        guest.ok("mq_unlink", name)
    guest.fails(errno.ENOENT, "mq_unlink", name)
