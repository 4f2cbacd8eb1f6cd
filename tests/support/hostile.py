"""Hostile input, a case after the other in a process of its own: damaged programs, and calls with wild arguments.

    python -m support.hostile KIND SEED FIRST COUNT FOLDER

writes a line of JSON before each case and one for what went wrong. A case is its seed: the same numbers give the same
case; a call also depends on those before it. `watch` is the other side: it starts such a process and notices when a
case does not end or takes the process with it.

Calls are made for real where namespaces can be had: `isolated` gives a root folder, processes, mounts and a network of
the process's own. Elsewhere what would touch files, processes or the network is refused, as by a host that permits
nothing (`recorded`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
QUIET = 60.0  # seconds without a word, after which a case hangs
INSTRUCTIONS = 1000
MASK = (1 << 64) - 1
EDGES = (0, 1, 2, 3, 7, 8, 16, 56, 64, 0xFFF, 0x1000, 0x1001, 0xFFFF, 0x10000, 1 << 20, (1 << 31) - 1, 1 << 31,
         (1 << 32) - 1, 1 << 32, (1 << 38) - 0x2000, (1 << 38) - 0x1000, (1 << 38) - 1, 1 << 38, (1 << 63) - 1, 1 << 63,
         MASK - 0xFFF, MASK - 1, MASK)  # fmt: skip


# --- damaged programs -----------------------------------------------------------------------------------------------

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_WIDTHS = ((0, 16), (16, 2), (18, 2), (20, 4), (24, 8), (32, 8), (40, 8), (48, 4), (52, 2), (54, 2), (56, 2), (58, 2),
           (60, 2), (62, 2))  # fmt: skip
_ROW_WIDTHS = ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8))
_KINDS = (0, 1, 2, 3, 4, 6, 7, 0x6474E550, 0x6474E551, 0x6474E552, 0x6474E553, 0x70000003)


def bases(folder: Path) -> list[bytes]:
    """Programs to damage: tiny ones, one with every kind of program header, one from a compiler, a script."""
    from support import tiny
    from support.riscv import words_to_bytes

    import dragoman

    code = words_to_bytes(tiny.leave(0))
    rows = [(6, 64, 56 * 6), (3, 400, 9), (1, 0, 512 + len(code)), (4, 420, 32), (0x6474E551, 0, 0), (7, 400, 16)]
    table = b"".join(struct.pack("<IIQQQQQQ", kind, 7, offset, 0x10000 + offset, 0, size, size, 4096)
                     for kind, offset, size in rows)  # fmt: skip
    note = struct.pack("<III4sIIQ", 4, 16, 5, b"GNU\0", 0xC0000000, 4, 1)
    whole = bytearray(512)
    whole[:64] = tiny.header(0x10200, kind=3, count=len(rows))
    whole[64 : 64 + len(table)] = table
    whole[400:409] = b"/loader\0\0"
    whole[420 : 420 + len(note)] = note
    (folder / "loader").write_bytes(tiny.elf(code))
    (folder / "loader").chmod(0o755)
    compiled = [dragoman.find(name).read_bytes() for name in ("@hello", "@sieve")]
    return [tiny.elf(code), bytes(whole) + code, *compiled, b"#!/loader argument\n"]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A program with one to four things changed."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_DAMAGES)(rng, made)
    return bytes(made)


def _value(rng: random.Random, width: int, size: int) -> int:
    if not rng.randrange(4):
        return rng.getrandbits(8 * width)
    near = rng.choice((size, 0x10000, rng.choice(EDGES))) + rng.choice((0, 0, 1, -1, 8, 4096))
    return near & (1 << 8 * width) - 1


def _set(made: bytearray, at: int, width: int, value: int) -> None:
    if at + width <= len(made):
        made[at : at + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def _header(rng: random.Random, made: bytearray) -> None:
    at, width = rng.choice(_WIDTHS)
    if width == 16:
        at, width = rng.randrange(16), 1
    _set(made, at, width, _value(rng, width, len(made)))


def _rows(made: bytearray) -> int:
    return struct.unpack_from("<H", made, 56)[0] if len(made) >= 64 else 0


def _row(rng: random.Random, made: bytearray) -> None:
    start = 64 + 56 * rng.randrange(max(1, min(_rows(made), 8)))
    at, width = rng.choice(_ROW_WIDTHS)
    value = rng.choice(_KINDS) if at == 0 else rng.randrange(16) if at == 4 else _value(rng, width, len(made))
    _set(made, start + at, width, value)


def _overlap(rng: random.Random, made: bytearray) -> None:
    """One row over another, perhaps a little further on."""
    count = max(1, min(_rows(made), 8))
    source, target = 64 + 56 * rng.randrange(count), 64 + 56 * rng.randrange(count)
    made[target : target + 56] = made[source : source + 56]
    if rng.randrange(2) and target + 24 <= len(made):
        address = struct.unpack_from("<Q", made, target + 16)[0]
        _set(made, target + 16, 8, address + rng.choice((1, 8, 0x800, 0x1000, -0x1000, 1 << 37)))


def _cut(rng: random.Random, made: bytearray) -> None:
    del made[rng.randrange(len(made) + 1) :]


def _grow(rng: random.Random, made: bytearray) -> None:
    made += rng.randbytes(rng.choice((1, 7, 4096)))


def _flip(rng: random.Random, made: bytearray) -> None:
    for _ in range(rng.randrange(1, 16)):
        if made:
            made[rng.randrange(min(len(made), 600))] ^= 1 << rng.randrange(8)


def _interpreter(rng: random.Random, made: bytearray) -> None:
    """What stands where the loader's name was, or behind #!."""
    name = rng.choice((b"", b"/", b".", b"..", b"loader", b"/loader", b"/none\0", b"/" + b"x" * 60,
                       b"\xff\xfe/\x1b[31m", b"/a\nb\0", b"/dev/null\0", b"/proc/self/exe\0", b"/program\0",
                       b"\0\0\0"))  # fmt: skip
    at = 2 if made[:2] == b"#!" else 400
    if len(made) >= at:
        made[at : at + len(name)] = name


_DAMAGES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _header, _header, _row, _row, _row, _overlap, _cut, _grow, _flip, _interpreter)


def program(seed: int, number: int, made: list[bytes]) -> bytes:
    """Case `number`: the same for the same seed."""
    rng = random.Random(seed * 1_000_003 + number)
    return damaged(rng, rng.choice(made))


class Programs:
    """Cases that load a damaged program and execute its first instructions. None of them leaves anything behind."""

    SETTLED, GROWTH = 1000, 32 << 10  # after so many cases memory grows by no more than that, in KiB

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder, self.path = seed, folder, folder / "program"
        self.made = bases(folder)
        self.null = os.dup(0)
        self.ends: dict[str, int] = {}
        self.before = (0, 0)

    def case(self, number: int) -> None:
        import dragoman

        if sum(self.ends.values()) == self.SETTLED:
            self.before = _used()
        self.path.write_bytes(program(self.seed, number, self.made))
        engine = "reference" if number % 50 else "translated"
        try:
            process = dragoman.load(self.path, engine=engine, sysroot=self.folder, stdin=self.null, stdout=self.null,
                                    stderr=self.null, env={})  # fmt: skip
        except dragoman.NotRunnable as error:
            if not str(error).strip():
                raise AssertionError(f"no sentence: {error!r}") from error
            return self._count("refused")
        with process:
            process.image.symbols()
            try:
                process.run(INSTRUCTIONS)
            except dragoman.LimitReached:
                return self._count("went on")
            self._count("exited" if process.signal is None else "killed")

    def _count(self, end: str) -> None:
        self.ends[end] = self.ends.get(end, 0) + 1

    def finish(self) -> dict[str, int]:
        (descriptors, memory), (before, at_first) = _used(), self.before
        if before and (descriptors != before or memory > at_first + self.GROWTH):
            raise AssertionError(f"{descriptors} descriptors are open, {before} were; "
                                 f"memory has grown from {at_first} to {memory} KiB")  # fmt: skip
        return self.ends


def _used() -> tuple[int, int]:
    """Descriptors that are open, and the most memory that was resident, in KiB."""
    return len(os.listdir("/proc/self/fd")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- wild calls -----------------------------------------------------------------------------------------------------

DATA, PAGES = 0x100000, 16  # of the guest's memory: readable and writable; a page behind that may only be read
TICK = 0.02  # seconds after which a call that waits is interrupted
LONG = 10.0  # seconds for one that has no reason to
# Calls that may wait for something that never comes; all others end by themselves.
WAITING = frozenset("""
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 sendfile splice tee vmsplice
    copy_file_range futex futex_wait futex_waitv ppoll pselect6 epoll_pwait epoll_pwait2 nanosleep clock_nanosleep
    flock fcntl accept accept4 connect recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg rt_sigsuspend rt_sigtimedwait
    wait4 waitid msgrcv msgsnd semop semtimedop mq_timedsend mq_timedreceive openat openat2 io_getevents
    io_pgetevents ioctl syslog kill tkill tgkill clone clone3 exit""".split())
_NAMES = (b"f", b"d", b"d/f", b"link", b".", b"..", b"", b"/", b"/proc/self/exe", b"/proc/self/fd/0",
          b"/proc/self/maps", b"x" * 300, b"d/" * 2000, b"\xff\xfe", b"user.name", b"/proc", b"fifo",
          b"tmpfs")  # fmt: skip


class _Waited(BaseException):
    """The call was interrupted by our clock."""


class _Canaries:
    """Patterns in the guard zones on both sides of a guest's memory: nobody has business there."""

    SIZE = 8192
    PATTERN = bytes(range(256)) * (SIZE // 256)

    def __init__(self, space: Any) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self.places = (space.base - self.SIZE, space.base + space.size)
        for place in self.places:
            if libc.mprotect(place, self.SIZE, 3):
                raise OSError(ctypes.get_errno(), "mprotect of a guard zone")
            ctypes.memmove(place, self.PATTERN, self.SIZE)

    def check(self) -> None:
        for place in self.places:
            if ctypes.string_at(place, self.SIZE) != self.PATTERN:
                raise AssertionError(f"something was written beside the guest's memory, at {place:#x}")


class Calls:
    """Cases that make one call each; a guest lives for a few hundred of them."""

    def __init__(self, seed: int, folder: Path) -> None:
        import guests.riscv.linux as abi
        from dbt.linux import blocking, strace
        from dbt.linux.exits import Forked
        from dbt.linux.kernel import HANDLERS, handler_of, import_all
        from dbt.linux.signatures import SIGNATURES

        import_all()  # when there will be no files of ours any more
        blocking.calls()
        self.abi, self.seed, self.strace = abi, seed, strace
        self.names, self.signatures = abi.names(), SIGNATURES
        self.texts: list[int] = []
        self.calls = sorted((number, name) for number, name in abi.CALLS.items() if name in HANDLERS)
        for _number, name in self.calls:
            handler_of(name)
        self.results: dict[str, int] = {}
        self.forked = Forked
        self.name, self.since = "", 0.0
        self.guest: Any = None
        self.null = os.dup(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def isolate(self, folder: Path) -> None:
        """Into a root folder of our own; what the kernel needs is imported by now."""
        os.chroot(folder)
        os.chdir("/")
        os.mkdir("d")
        for path in ("f", "d/f"):
            with open(path, "wb") as file:
                file.write(b"some text\n" * 50)
        os.symlink("d/f", "link")
        os.mkfifo("fifo")

    def record(self) -> None:
        """Refuse what would leave a mark on the host."""
        from dbt.linux import host
        from dbt.linux.signatures import members

        kept = {"fallocate", "fstatfs", "getrusage", "getdents64", "sysinfo", "epoll_create1", "epoll_ctl",
                "timerfd_create", "timerfd_settime", "timerfd_gettime", "inotify_init1", "tee", "splice", "cachestat"}
        real = host.call

        def call(name: str, *arguments: Any) -> int:
            return real(name, *arguments) if name in kept else refuse()

        def refuse(*arguments: Any, **more: Any) -> int:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        host.call = call
        for name in """
                open truncate setxattr removexattr chdir fchdir chmod fchmod chown fchown kill killpg setuid setgid
                setreuid setregid setresuid setresgid setgroups setsid setpgid setpriority umask sync fsync fdatasync
                fork execve link symlink mkdir mknod unlink rename rmdir utime chroot sched_setaffinity
                sched_setscheduler sched_setparam pidfd_open posix_spawn""".split():  # fmt: skip
            if hasattr(os, name):
                setattr(os, name, refuse)
        # Made by number, or of processes: not to be had without a world of one's own.
        left = members("network") | members("process") | {"socket", "execveat", "unshare", "setns", "syncfs"}
        self.calls = [(number, name) for number, name in self.calls if name not in left or name == "socketpair"]

    # One call ---------------------------------------------------------------------------------------------

    def case(self, number: int) -> None:
        rng = random.Random(self.seed * 1_000_003 + number)
        if self.guest is None or number % 400 == 0:
            self._renew(rng)
        if number % 40 == 0:
            self._fill(rng)
        code, name = rng.choice(self.calls)
        words = self._words(rng, name)
        self._guard()
        self.name, self.since = name, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
        try:
            result = self.tracer.call(code, words)
            how = "done" if result < MASK - 4095 else "failed"
            if result != result & MASK:
                raise AssertionError(f"{name}{words}: the result {result:#x} is no word")
        except _Waited:
            how = "waited"
        except self.forked:
            os._exit(0)
        except self.leaving:
            how, self.guest = "left", None if rng.randrange(8) == 0 else self.guest
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.name = ""
        self.results[how] = self.results.get(how, 0) + 1
        if number % 100 == 0:
            self.canaries.check()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _renew(self, rng: random.Random) -> None:
        from dbt.linux import exits
        from dbt.linux.kernel import Kernel
        from dbt.memory import AddressSpace

        if self.guest is not None:
            self.canaries.check()
            self.guest.close()
            self.space.close()
        self.space = AddressSpace()
        self.canaries = _Canaries(self.space)
        null = self.null
        self.guest = Kernel(self.space, self.abi, argv=[b"a"], env=[], executable="/f", stdin=null, stdout=null,
                            stderr=null, deterministic_seed=1 if rng.randrange(3) == 0 else None,
                            warn=lambda text: None)  # fmt: skip
        self.lines = 0
        self.tracer = self.strace.Strace(self.guest, self._line, self.strace.selection(""))
        self.leaving = tuple(kind for kind in vars(exits).values() if isinstance(kind, type))
        self.guest.break_start = self.guest.break_end = 0x40000000
        self._fill(rng)
        self._open()

    def _open(self) -> None:
        """Descriptors from 3 on: a file, a pipe, sockets, a memory file, and what counts and waits."""
        numbers = {name: number for number, name in self.calls}
        self.space.write(DATA, b"f\0")
        for name, *words in (("openat", MASK - 99, DATA, 2), ("pipe2", DATA + 64, 0o4000), ("memfd_create", DATA, 0),
                             ("socketpair", 1, 1, 0, DATA + 64), ("epoll_create1", 0), ("eventfd2", 5, 0o4000)):
            if name in numbers:
                self.guest.call(numbers[name], (*words, *[0] * (6 - len(words))))

    def _line(self, text: str) -> None:
        if not text.isprintable():
            raise AssertionError(f"not a line for people: {text!r}")

    def _fill(self, rng: random.Random) -> None:
        """Memory as a program might have it: strings, structures with pointers, sizes."""
        size = PAGES * 4096
        self.space.map(DATA, size + 4096, 3, fixed=True)
        self.space.write(DATA, self._data(rng, size))
        self.space.protect(DATA + size, 4096, 1)

    def _data(self, rng: random.Random, size: int) -> bytes:
        cells = [rng.choice((self._word(rng), rng.randrange(64), DATA + rng.randrange(size))) for _ in range(size // 8)]
        data = bytearray(struct.pack(f"<{len(cells)}Q", *cells))
        self.texts = [rng.randrange(0, size - 4200, 64) for _ in range(60)]
        for at in self.texts:
            name = rng.choice(_NAMES) + b"\0"
            data[at : at + len(name)] = name
        self.texts = [DATA + at for at in self.texts]
        return bytes(data)

    def _words(self, rng: random.Random, name: str) -> tuple[int, ...]:
        """Arguments: wild ones, or such as the parameters ask for, but for one or none."""
        words = [self._word(rng) for _ in range(6)]
        if rng.randrange(3):
            for index, parameter in enumerate(self.signatures[name].parameters):
                if rng.randrange(5):
                    words[index] = self._fitting(rng, parameter.kind)
        return tuple(words)

    def _fitting(self, rng: random.Random, kind: str) -> int:
        what, _, table = kind.partition(":")
        if what == "flags":
            values = list(self.names.FLAGS[table].values())
            return sum({rng.choice(values) for _ in range(rng.randrange(4))}) & MASK
        if what == "name":
            return rng.choice(list(self.names.NUMBERS[table].values())) & MASK
        if kind in ("fd", "dirfd"):
            return rng.choice((*range(12), *range(12), MASK - 99))
        if kind in ("path", "string"):
            return rng.choice(self.texts)
        if kind in ("int", "uint", "long", "size", "pid", "id", "octal", "creation", "hex"):
            return rng.choice((0, 1, 2, 3, 4, 7, 8, 16, 24, 64, 100, 128, 4096, 8192))
        return DATA + rng.randrange(0, PAGES * 4096, 64)

    def _word(self, rng: random.Random) -> int:
        kind = rng.randrange(16)
        if kind < 5:
            return DATA + rng.randrange(0, PAGES * 4096, 64)
        if kind < 8:
            return rng.randrange(12)
        if kind < 9:
            return DATA + rng.choice((PAGES, PAGES + 1)) * 4096 - rng.randrange(-8, 17)
        if kind < 10:
            return DATA + rng.randrange((PAGES + 1) * 4096)
        if kind < 11:
            return 1 << rng.randrange(64)
        if kind < 12:
            return -rng.randrange(1, 120) & MASK
        if kind < 14:
            return rng.choice(EDGES)
        return rng.getrandbits(rng.choice((16, 32, 40, 64)))

    def _guard(self) -> None:
        """Our own signals as we need them, whatever the guest has done to them."""
        if signal.getsignal(signal.SIGALRM) != self._tick:
            signal.signal(signal.SIGALRM, self._tick)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a guest may interrupt its group, which we are in

    def _tick(self, number: int, frame: object) -> None:
        if self.name in WAITING:
            raise _Waited
        if self.name and time.monotonic() - self.since > LONG:
            raise AssertionError(f"{self.name} does not end")

    def finish(self) -> dict[str, int]:
        self.canaries.check()
        return self.results


ROWS = 40  # calls that a program of `Processes` makes
PATIENCE = 0.3  # seconds for one
_OF_THE_TREE = ("mount", "umount2", "move_mount", "mount_setattr", "pivot_root", "chroot")  # the next one needs it


class Processes(Calls):
    """Cases that are a program each, which makes a few dozen calls: signals come, programs are executed and forked."""

    def __init__(self, seed: int, folder: Path) -> None:
        from support.tiny import leave, program

        super().__init__(seed, folder)
        self.calls = [(number, name) for number, name in self.calls if name not in _OF_THE_TREE]
        importlib.import_module("dbt.child")
        with self._process(program(folder / "first", leave(0))) as process:  # all is imported then
            process.run()

    def case(self, number: int) -> None:
        import dragoman

        rng = random.Random(self.seed * 1_000_003 + number)
        path = Path("/program")
        path.write_bytes(self._program(rng))
        path.chmod(0o755)
        self._guard()
        with self._process(path) as process:
            canaries = _Canaries(process.space)
            self.name, self.since = "program", time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            try:
                process.run(20_000)
                how = "exited" if process.signal is None else "killed"
            except dragoman.LimitReached:
                how = "went on"
            except _Waited:
                how = "waited"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                self.name = ""
            canaries.check()
        self.results[how] = self.results.get(how, 0) + 1
        if number % 20 == 0:
            self._end_children()

    def _process(self, path: Path) -> Any:
        import dragoman

        return dragoman.load(path, engine="reference", stdin=self.null, stdout=self.null, stderr=self.null, env={},
                             strace=self._line)  # fmt: skip

    def _tick(self, number: int, frame: object) -> None:
        if self.name and time.monotonic() - self.since > PATIENCE:
            raise _Waited

    def _end_children(self) -> None:
        """Those that guests have made, and that wait for something: all processes but us, who are the first here."""
        assert os.getpid() == 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _program(self, rng: random.Random) -> bytes:
        """A loop over a table of calls, which stands behind the data; the last one is exit_group."""
        from support import tiny
        from support.riscv import asm, words_to_bytes

        size, registers = PAGES * 4096, (10, 11, 12, 13, 14, 15, 17)
        code = [asm("lui", rd=8, imm=DATA + size),
                *(asm("ld", rd=register, rs1=8, imm=8 * index) for index, register in enumerate(registers)),
                asm("addi", rd=8, rs1=8, imm=56), tiny.ECALL,
                asm("jal", rd=0, imm=-4 * (len(registers) + 2))]  # fmt: skip
        data = self._data(rng, size)
        rows: list[int] = []
        for _ in range(ROWS):
            number, name = rng.choice(self.calls)
            rows += [*self._words(rng, name), number]
        content = data + struct.pack(f"<{len(rows) + 7}Q", *rows, *[0] * 6, 94)
        text, start = words_to_bytes(code), 64 + 2 * 56
        return b"".join((
            tiny.header(tiny.BASE + start, count=2), tiny.segment(tiny.BASE, 0, start + len(text), start + len(text)),
            tiny.segment(DATA, start + len(text), len(content), len(content)), text, content))  # fmt: skip

    def finish(self) -> dict[str, int]:
        return self.results


# --- the process, and who watches it --------------------------------------------------------------------------------


def main(words: Sequence[str]) -> None:
    kind, seed, first, count, folder = words[0], int(words[1]), int(words[2]), int(words[3]), Path(words[4])
    out = os.fdopen(os.dup(1), "w", 1)
    with contextlib.suppress(PermissionError):
        os.setsid()
    cases: Programs | Calls = {"programs": Programs, "processes": Processes}.get(kind, Calls)(seed, folder)
    if kind in ISOLATED:
        cases.isolate(folder)
    elif kind == "recorded":
        cases.record()
    for number in range(first, first + count):
        out.write(f"{number}\n")
        try:
            cases.case(number)
        except Exception:
            out.write(json.dumps({"case": number, "wrong": traceback.format_exc()}) + "\n")
    out.write(json.dumps({"end": cases.finish()}) + "\n")


class Outcome(NamedTuple):
    ends: dict[str, int]
    wrong: list[str]


def watch(kind: str, seed: int, count: int, folder: Path, most: int = 20) -> Outcome:
    """Go through the cases; what went wrong, `most` of it, and how cases ended. A process that is lost is replaced."""
    ends: dict[str, int] = {}
    wrong: list[str] = []
    first = 0
    while first < count and len(wrong) < most:
        last = first - 1
        for line in _lines(_command(kind, seed, first, count - first, folder), wrong):
            if line.isdecimal():
                last = int(line)
                continue
            said = json.loads(line)
            if "end" in said:
                last = count - 1
                for how, number in said["end"].items():
                    ends[how] = ends.get(how, 0) + number
            else:
                wrong.append(f"case {said['case']} of seed {seed}: {said['wrong']}")
        if last < first:
            wrong.append(f"the process of case {first} of seed {seed} did not begin")
            break
        if last < count - 1:
            wrong.append(f"case {last} of seed {seed}: the process is lost")
        first = last + 1
    return Outcome(ends, wrong)


def _command(kind: str, seed: int, first: int, count: int, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "support.hostile", kind, str(seed), str(first), str(count), str(folder)]
    if kind not in ISOLATED:
        return command
    setup = 'mount -t tmpfs -o size=32m none "$0" && mkdir "$0/proc" && mount -t proc none "$0/proc" && exec "$@"'
    return [*NAMESPACES, "sh", "-c", setup, str(folder), *command]


ISOLATED = ("isolated", "processes")
NAMESPACES = ("unshare", "-Urmpnif", "--kill-child")


def has_namespaces() -> bool:
    """Whether we can have users, mounts, processes and a network of our own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, timeout=60).returncode == 0


def _lines(command: Sequence[str], wrong: list[str]) -> Iterator[str]:
    """The lines of a process, until its end or until it has been quiet for too long."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    null = os.open(os.devnull, os.O_RDWR)  # inside it cannot be opened
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=null, env=env,
                               start_new_session=True)  # fmt: skip
    os.close(null)
    assert process.stdout is not None and process.stderr is not None
    kept = errors = b""
    streams = [process.stdout, process.stderr]
    try:
        while streams:
            ready, _, _ = select.select(streams, [], [], QUIET)
            if not ready:
                wrong.append(f"nothing happens for {QUIET} seconds")
                return
            for stream in ready:
                data = os.read(stream.fileno(), 1 << 16)
                if not data:
                    streams.remove(stream)
                elif stream is process.stderr:
                    errors = (errors + data)[-4000:]
                else:
                    *whole, kept = (kept + data).split(b"\n")
                    yield from (line.decode() for line in whole)
        if process.wait() != 0 or b"Fatal" in errors or b"Traceback" in errors:
            wrong.append(f"status {process.returncode}: {errors.decode(errors='replace')}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()


if __name__ == "__main__":
    main(sys.argv[1:])
