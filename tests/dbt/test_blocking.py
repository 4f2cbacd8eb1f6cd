"""Host calls that a signal ends for certain: the machine code, its race, and what is made again."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import pytest

from dbt.hosts import generic_linux, x86_64_atomic, x86_64_linux
from dbt.linux.blocking import ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS, Guarded, Interrupted, Plain, blocking, calls

SIGNAL = signal.SIGRTMIN + 20
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the machine code is x86-64's")


@pytest.fixture
def ours() -> Iterator[Guarded]:
    """The process's calls, with their handler as the action of SIGNAL."""
    made = calls()
    assert isinstance(made, Guarded)
    old = made.take_over(SIGNAL, "note", 0)
    yield made
    made.give_back(SIGNAL, old)
    made.arrived()
    made.clear()


def me() -> int:
    return threading.get_ident()


@pytest.mark.parametrize("host", [x86_64_linux, x86_64_atomic])
def test_the_bytes_are_what_the_assembly_says(host: ModuleType) -> None:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    text = host.TEXT.replace("\n", "\\0A")
    module = binding.parse_assembly(f'module asm "{text}"\n')
    made = binding.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine().emit_object(module)
    assert made.count(host.CODE) == 1


def test_numbers_are_those_of_the_headers() -> None:
    """Both hosts name the same calls; those of the common table are those of the riscv64 guest."""
    import guests.riscv.linux as abi

    numbers = {name: number for number, name in abi.CALLS.items()}
    assert set(generic_linux.CALLS) == set(x86_64_linux.CALLS)
    assert {name: numbers[name] for name in generic_linux.CALLS} == generic_linux.CALLS


@pytest.mark.parametrize("made", [Guarded(x86_64_linux), Plain(x86_64_linux)], ids=["guarded", "plain"])
def test_results_and_errors(made: Plain) -> None:
    numbers = made.numbers
    reading, writing = os.pipe()
    assert made.call(numbers["write"], writing, b"abc", 3, 0, 0, 0) == 3
    buffer = ctypes.create_string_buffer(8)
    assert made.call(numbers["read"], reading, buffer, 8, 0, 0, 0) == 3 and buffer.raw[:3] == b"abc"
    assert made.call(numbers["read"], -1, buffer, 8, 0, 0, 0) == -errno.EBADF
    at = ctypes.c_int64(0)
    fd = os.memfd_create("x")
    os.write(fd, b"0123456789")
    assert made.call(numbers["copy_file_range"], fd, ctypes.byref(at), fd, ctypes.byref(ctypes.c_int64(10)), 4, 0) == 4
    assert at.value == 4 and os.pread(fd, 4, 10) == b"0123"
    for each in (reading, writing, fd):
        os.close(each)


def test_a_signal_before_the_call_ends_it(ours: Guarded) -> None:
    ours.clear()
    signal.pthread_kill(me(), SIGNAL)
    reading, writing = os.pipe()
    number = x86_64_linux.CALLS["read"]
    assert ours.call(number, reading, ctypes.create_string_buffer(8), 8, 0, 0, 0) == -ERESTARTSYS
    (info,) = ours.arrived()
    found, _error, code, _pad, pid, uid = struct.unpack_from("<iiiiii", info)
    assert (found, code, pid, uid) == (SIGNAL, -6, os.getpid(), os.getuid())  # SI_TKILL
    os.close(reading), os.close(writing)


def test_a_signal_during_the_call_ends_it(ours: Guarded) -> None:
    reading, writing = os.pipe()
    begin, target = time.monotonic(), me()
    later = threading.Timer(0.1, lambda: signal.pthread_kill(target, SIGNAL))
    later.start()
    with pytest.raises(Interrupted) as ended:
        blocking("read", (reading, ctypes.create_string_buffer(8), 8), lambda: bool(ours.arrived()))
    assert ended.value.restart == ERESTARTSYS and ended.value.errno == errno.EINTR
    assert time.monotonic() - begin < 5
    later.join()
    os.close(reading), os.close(writing)


def test_a_socket_with_a_timeout_is_not_asked_again(ours: Guarded) -> None:
    """Whatever SA_RESTART says (signal(7))."""
    target, ends = me(), socket.socketpair()
    for seconds, restart in ((0, ERESTARTSYS), (5, errno.EINTR)):
        ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("<qq", seconds, 0))
        later = threading.Timer(0.05, lambda: signal.pthread_kill(target, SIGNAL))
        later.start()
        with pytest.raises(Interrupted) as ended:
            blocking("recvfrom", (ends[0].fileno(), None, 0), lambda: bool(ours.arrived()))
        assert ended.value.restart == restart
        later.join()
    for end in ends:
        end.close()


def race(ours: Guarded, rounds: int) -> int:
    """Signals at random moments around the begin of a call that would never end; how many came before it waited."""
    reading, writing = os.pipe()
    rng, early, target = random.Random(rounds), 0, me()
    number, buffer = x86_64_linux.CALLS["read"], ctypes.create_string_buffer(8)
    for _ in range(rounds):
        ours.clear()
        wait = rng.random() * 60e-6
        go = threading.Event()

        def strike(wait: float = wait, go: threading.Event = go) -> None:
            go.wait()
            end = time.perf_counter() + wait
            while time.perf_counter() < end:
                pass
            signal.pthread_kill(target, SIGNAL)

        thread = threading.Thread(target=strike)
        thread.start()
        go.set()
        result = ours.call(number, reading, buffer, 8, 0, 0, 0)
        assert result in (-errno.EINTR, -ERESTARTSYS)
        early += result == -ERESTARTSYS
        thread.join()
        assert len(ours.arrived()) == 1
    os.close(reading), os.close(writing)
    return early


def test_no_signal_is_lost_between_test_and_call(ours: Guarded) -> None:
    assert any(race(ours, 300) for _ in range(10))  # on a busy machine few come so close


@pytest.mark.long
def test_no_signal_is_lost_in_many_rounds(ours: Guarded) -> None:
    assert race(ours, 30_000) > 0


class Struck(Exception):
    """What a handler of Python's raises."""


def come_late(made: Guarded, rounds: int) -> int:
    """The same with a handler of Python's: how often it was only executed because something else ended the call."""
    reading, writing = os.pipe()
    rng, target, buffer = random.Random(rounds), me(), ctypes.create_string_buffer(8)
    late: list[int] = []

    def strike(wait: float, go: threading.Event) -> None:
        go.wait()
        end = time.perf_counter() + wait
        while time.perf_counter() < end:
            pass
        signal.pthread_kill(target, SIGNAL)

    def struck(number: int, frame: object) -> None:
        raise Struck

    handlers = {SIGNAL: struck, signal.SIGALRM: lambda number, frame: late.append(number)}
    before = [(number, signal.signal(number, handler)) for number, handler in handlers.items()]
    with made.woken():
        for _ in range(rounds):
            go = threading.Event()
            thread = threading.Thread(target=strike, args=(rng.random() * 60e-6, go))
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Struck):
                go.set()
                blocking("read", (reading, buffer, 8), lambda: False)
            signal.setitimer(signal.ITIMER_REAL, 0)
            thread.join()
            if late:
                break
    for number, handler in before:
        signal.signal(number, handler)
    os.close(reading), os.close(writing)
    return len(late)


def test_a_handler_of_pythons_runs_before_a_call_waits(ours: Guarded) -> None:
    """Ctrl-C in the instant before a call was seen when the call ended."""
    assert come_late(ours, 10_000) == 0


@pytest.mark.long
def test_a_handler_of_pythons_runs_in_many_rounds(ours: Guarded) -> None:
    assert come_late(ours, 30_000) == 0


def test_an_interrupted_pc_is_moved_where_a_call_has_not_begun(ours: Guarded) -> None:
    """By the action that goes on in Python's: at each byte of the code, as the kernel would call it."""
    code, numbers = x86_64_linux.CODE, []
    begin, end = code.index(b"\x83\x3d"), code.index(b"\x0f\x05") + 2
    base = ctypes.addressof(ctypes.c_char.from_buffer(ours._memory))
    action = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(base + x86_64_linux.WAKER)
    following = ctypes.CFUNCTYPE(None, ctypes.c_int)(numbers.append)
    kept = ours._words[x86_64_linux.NEXT >> 3]
    ours._words[x86_64_linux.NEXT >> 3] = ctypes.cast(following, ctypes.c_void_p).value or 0
    for at in range(len(code)):
        context = (ctypes.c_uint64 * 64)()
        context[168 >> 3] = base + at
        ours.clear()
        action(SIGNAL, None, context)
        assert ours.noticed and context[168 >> 3] == base + (end + 1 if begin <= at < end else at)
    assert numbers == [SIGNAL] * len(code)
    ours._words[x86_64_linux.NEXT >> 3] = kept


MANY = """
import ctypes, os, signal, struct
from dbt.hosts import x86_64_linux
from dbt.linux.blocking import calls
number, count = signal.SIGRTMIN + 20, 2 * x86_64_linux.ENTRIES
ours = calls()
ours.take_over(number, "note", 0)
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
for value in range(count):
    assert ctypes.CDLL(None).sigqueue(os.getpid(), number, ctypes.c_void_p(value)) == 0
seen = []
while len(seen) < count:
    infos = ours.arrived()
    assert infos
    seen += [struct.unpack_from("<q", info, 24)[0] for info in infos]
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
print(seen == list(range(count)))
"""


def test_a_full_ring_leaves_the_rest_to_the_kernel() -> None:
    """No signal is lost, and the order is kept, in a process with one thread: of several, each may take some."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


FULL = """
import ctypes, os, signal, sys, threading
from dbt.linux.blocking import calls
number = signal.SIGRTMIN + 20
calls().take_over(number, "note", 0)
reading, writing = os.pipe()
other = threading.Thread(target=os.read, args=(reading, 1), daemon=True)
other.start()
for _ in range(1000):
    signal.pthread_kill(other.ident, number)
while len(calls().arrived()) == 0:
    pass
os.setresuid(-1, -1, -1)  # the C library has every thread do this, by a signal of its own
print("done")
"""


def test_a_full_ring_leaves_the_c_library_its_signals() -> None:
    """They were blocked, too, in a thread that came to note others; setuid then waited for it, and for ever."""
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_what_is_not_for_the_guest_does_not_end_a_call(ours: Guarded) -> None:
    """And time that passed counts."""
    target, begin = me(), time.monotonic()
    timers = [threading.Timer(at, lambda: signal.pthread_kill(target, SIGNAL)) for at in (0.1, 0.2, 0.3)]
    for timer in timers:
        timer.start()
    epoll = select.epoll()
    events = ctypes.create_string_buffer(12)
    assert blocking("epoll_pwait", (epoll.fileno(), events, 1, 500, None, 8), lambda: False) == 0
    assert 0.45 < time.monotonic() - begin < 0.75
    limit = ctypes.create_string_buffer(struct.pack("<qq", 0, 100_000_000), 16)
    assert blocking("ppoll", (None, 0, limit, None, 0), lambda: False) == 0
    assert limit.raw == bytes(16)
    for timer in timers:
        timer.join()
    with pytest.raises(Interrupted) as ended:
        blocking("ppoll", (None, 0, None, None, 0), lambda: True)
    assert ended.value.restart == ERESTARTNOINTR  # it came before the call, which is still to be made
    with pytest.raises(Interrupted) as ended:
        blocking("ppoll", (None, 0, None, None, 0), lambda: True, masked=True)
    assert ended.value.restart == ERESTARTNOHAND
    with pytest.raises(OSError) as failed:
        blocking("read", (-1, None, 0), lambda: False)
    assert failed.value.errno == errno.EBADF
