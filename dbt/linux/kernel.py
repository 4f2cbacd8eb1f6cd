"""The kernel personality: one guest process, and the way from a call number to its handler.

Owns: `Kernel` (what a process has: descriptors, break, signal dispositions, limits, clock, randomness), dispatch,
error convention, and the list of what is not done. Must not know: any architecture, or the CPU:
an engine calls `Kernel.call` with plain numbers and puts the result where its ABI wants it.

Every effect on guest memory goes through the address space's calls, and what the host's kernel writes there itself is
told to it (`AddressSpace.target`, `arrived`), so that lockstep can record a call once and replay it.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from dbt.elf import Image, Loaded, NotRunnable, load
from dbt.linux import blocking as sleeping
from dbt.linux import (
    extended,
    files,
    memory_calls,
    paths,
    polling,
    process,
    random,
    siginfo,
    signals,
    stack,
    threads,
    time,
    vdso,
)
from dbt.linux.abi import Abi, Layout, layout
from dbt.linux.blocking import Interrupted
from dbt.linux.descriptors import Descriptors
from dbt.linux.exits import ExitGroup, Killed
from dbt.linux.family import Family
from dbt.linux.host import failure, int32
from dbt.linux.limits import Limits
from dbt.linux.programs import Program
from dbt.linux.sysroot import Sysroot
from dbt.linux.threads import Thread, Threads, leave_locks, release
from dbt.memory import EXEC, PAGE_SIZE, READ, WRITE, AddressSpace, MemoryFault, page_up

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from dbt.linux import signalfds, timerfds
    from dbt.linux.children import Sharing
    from dbt.linux.futexes import Waiter
    from dbt.linux.timers import Timers

__all__ = ["CoverageRow", "ExitGroup", "Kernel", "Killed"]

_MASK = (1 << 64) - 1
_SIGKILL = 9
_PIDS = 1000, 30000  # what a seed chooses from
Handler = Callable[..., int | None]

_FAMILIES: tuple[dict[str, Handler], ...] = (
    files.CALLS, extended.CALLS, polling.CALLS, memory_calls.CALLS, process.CALLS, signals.CALLS,
    threads.CALLS, time.CALLS, random.CALLS)

# Families that are imported when one of their calls is first made: module below dbt.linux, and its calls.
LATER = {
    "execution": "execve execveat",
    "children": "clone clone3 wait4 waitid pidfd_open pidfd_send_signal",
    "passed": """
        epoll_create1 inotify_init1 inotify_add_watch inotify_rm_watch pidfd_getfd process_mrelease splice
        tee sync_file_range cachestat umount2 mount pivot_root open_tree move_mount fsopen fsmount fspick
        vhangup statmount listmount
        unshare setns ioprio_get ioprio_set sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler
        sched_setscheduler sched_rr_get_interval sethostname setdomainname syslog
        mq_unlink mq_timedsend mq_timedreceive mq_getsetattr msgget msgsnd msgrcv semget semop semtimedop shmget""",
    "ipc": "shmctl msgctl shmat shmdt semctl mq_open mq_notify",
    "futexes": "futex futex_waitv",
    "rseq": "rseq",
    "epoll": "epoll_ctl epoll_pwait epoll_pwait2",
    "signalfds": "signalfd4",
    "timerfds": "timerfd_create timerfd_settime timerfd_gettime",
    "machine": """
        capget capset adjtimex clock_adjtime kcmp acct reboot swapon swapoff kexec_load kexec_file_load init_module
        finit_module delete_module clock_settime settimeofday chroot""",
    "ioctls": "ioctl",
    "mounts": "fsconfig mount_setattr open_tree_attr",
    "opening": "openat2 name_to_handle_at open_by_handle_at",
    "transfers": "vmsplice process_vm_readv process_vm_writev",
    "timers": """
        setitimer getitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete""",
    "sockets": """
        socket socketpair bind listen accept accept4 connect getsockname getpeername sendto recvfrom setsockopt
        getsockopt shutdown sendmsg recvmsg sendmmsg recvmmsg""",
}


# What changes where a process finds its files.
MOVING = frozenset(("mount", "move_mount", "pivot_root", "setns", "umount2"))


def _merge() -> MappingProxyType[str, Handler | str]:
    merged: dict[str, Handler | str] = {}
    later = [dict.fromkeys(names.split(), module) for module, names in LATER.items()]
    families: list[Mapping[str, Handler | str]] = [*_FAMILIES, *later]
    for family in families:
        for name, handler in family.items():
            if name in merged:
                raise ValueError(f"two handlers for the system call {name}")
            merged[name] = handler
    return MappingProxyType(merged)


HANDLERS = _merge()  # by name; the name of the module for those that are imported later


def handler_of(name: str) -> Handler:
    """A call's handler, imported if need be; KeyError."""
    found = HANDLERS[name]
    if isinstance(found, str):
        calls: dict[str, Handler] = import_module(f"dbt.linux.{found}").CALLS
        return calls[name]
    return found


def import_all() -> None:
    """Import what might be wanted later: the guest is about to change which files there are, ours among them."""
    from pkgutil import iter_modules

    for package in map(import_module, ("dbt.linux", "dbt.hosts")):
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
    for name in ("dbt.child", "dbt.report", "dbt.unwind", "marshal", "random", "resource", "threading"):
        import_module(name)


def arity(handler: Handler) -> int:
    """How many arguments a handler takes, but for the kernel."""
    count: int | None = getattr(handler, "count", None)
    return handler.__code__.co_argcount - 1 if count is None else count


def note(handler: Handler) -> str:
    """The first sentence that a handler says of itself, or ""."""
    text: str = getattr(handler, "note", None) or handler.__doc__ or ""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


# Answered with ENOSYS on purpose and without a word: programs ask for them and do well without.
REFUSED = {
    "landlock_create_ruleset": "programs go on without a sandbox of their own",
    "userfaultfd": "programs fall back",
    "seccomp": "as a kernel without filters: programs go on without, and say so",
    "ptrace": "a guest cannot trace another",
} | {name: reason for reason, names in {
    "programs fall back to plain calls": "io_uring_setup io_uring_enter io_uring_register",
    "as a kernel without asynchronous I/O": "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    "as a kernel without quotas": "quotactl quotactl_fd",
    "as a kernel without key rings": "add_key request_key keyctl",
    "as a kernel for one memory node":
        "mbind get_mempolicy set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "as a kernel without performance events and BPF": "perf_event_open bpf",
    "as a kernel without fanotify, whose events hold descriptors": "fanotify_init fanotify_mark",
    "as a kernel without Landlock, which would bind the translator as well":
        "landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    "as a kernel without security modules": "lsm_get_self_attr lsm_set_self_attr lsm_list_modules",
    "as a kernel without secret memory, which the translator could not read": "memfd_secret",
    "as riscv without shadow stacks": "map_shadow_stack",
    "as riscv, which has no protection keys": "pkey_mprotect pkey_alloc pkey_free",
    "Linux has removed it": "lookup_dcookie nfsservctl",
}.items() for name in names.split()}


class CoverageRow(NamedTuple):
    name: str
    number: int
    status: str  # "done", "refused" (ENOSYS on purpose) or "todo"
    note: str  # what is to be known: the first sentence that the handler says of itself, or why it is refused


class Kernel:
    """One guest process as its system calls see it."""

    def __init__(self, space: AddressSpace, abi: Abi, *, argv: list[bytes], env: list[bytes],
                 executable: str | Path, sysroot: str | Path | None = None, isa: str = "", stdin: int = 0,
                 stdout: int = 1, stderr: int = 2, deterministic_seed: int | None = None,
                 random_seed: int | None = None, stack_size: int | None = None, release: str | None = None,
                 clock: Callable[[], int] = lambda: 0, warn: Callable[[str], None] | None = None) -> None:
        self.space = space
        self.abi = abi
        self.argv = argv
        self.env = env
        self.executable = os.path.abspath(executable)
        self.sysroot = Sysroot(sysroot)
        self.isa = isa
        self.warn = warn or _warn
        self.seed = deterministic_seed
        chosen = deterministic_seed if random_seed is None else random_seed
        self.random = None if chosen is None else _random(chosen)
        self.pid = os.getpid() if self.seed is None or self.random is None else self.random.randrange(*_PIDS)
        self.family = Family(self.pid)
        self.child = False  # whether the guest's fork made us
        self.sharing: Sharing | None = None  # of a child of vfork, until it executes a program
        self.flush: Callable[[], None] = lambda: None  # called before a fork: nothing may be written twice
        self.leaving: Callable[[], None] = lambda: None  # called before a program of the host's takes our place
        self.release = release
        self.clock = clock
        self.persona = 0
        self.barriers = 0  # what membarrier has registered
        self.attached: dict[int, int] = {}  # length by address, of System V shared memory
        self.timers: dict[int, timerfds.Countdown] = {}  # of a deterministic run, by what identifies the file
        self.signalfds: dict[int, signalfds.SignalFd] = {}  # by what identifies the file
        self.memory_files: dict[tuple[int, int], int] = {}  # how /proc/self/mem was opened, by what identifies the file
        self.slept = 0  # nanoseconds of virtual time that passed in sleeps
        self.limits = Limits(stack_size)
        self.descriptors = Descriptors((stdin, stdout, stderr), self.limits.descriptors())
        self.threads = Threads(self.pid, os.fsencode(os.path.basename(self.executable))[:15],
                               lambda: self.signals.moved())
        self.signals = signals.Signals(self.threads)
        self.signals.collect = self._collect
        self.futexes: dict[int, list[Waiter]] = {}  # threads that wait, by word
        self.sigreturn = 0  # where handlers return to
        self.stack_pointer: Callable[[], int] = lambda: 0  # of the thread, which an alternate stack depends on
        self.schedule: Callable[[int, Callable[[], object]], Any] | None = None  # events in virtual time
        self.break_start = 0
        self.break_end = 0
        self.no_new_privileges = 0
        self.auxiliary = b""
        self.loaded: Loaded | None = None
        self.loader: Loaded | None = None  # of a dynamic program
        self.on_stuck: Callable[[], None] | None = None  # called before the guest waits for what it cannot bring about
        self.on_flush_icache: Callable[[], None] | None = None
        self._told: set[str] = set()
        self._working: bytes | None = None  # `place` of the working folder; None: not asked yet
        self._bound: dict[int, tuple[Handler, int]] = {}  # of the calls made so far

    # Calls ------------------------------------------------------------------------------------------------

    def call(self, number: int, arguments: tuple[int, ...]) -> int:
        """Carry out a system call. The result is an unsigned 64-bit word, a negative errno when it failed."""
        bound = self._bound.get(number) or self._bind(number)
        if bound is None:
            return self._unknown(number) & _MASK
        handler, count = bound
        try:
            result = handler(self, *arguments[:count]) or 0
        except MemoryFault:
            result = -errno.EFAULT
        except Interrupted as interrupted:
            result = -interrupted.restart
        except OSError as error:
            result = -(error.errno or errno.EIO)
        return result & _MASK

    def _bind(self, number: int) -> tuple[Handler, int] | None:
        name = self.abi.CALLS.get(number)
        if name is None or name not in HANDLERS:
            return None
        handler = handler_of(name)
        if name in MOVING:
            import_all()
        bound = self._bound[number] = handler, arity(handler)
        return bound

    def name(self, number: int) -> str:
        return self.abi.CALLS.get(number, f"#{number}")

    def coverage(self) -> list[CoverageRow]:
        """Every call of the architecture and whether it is done."""
        rows = []
        for number, name in sorted(self.abi.CALLS.items()):
            if name in HANDLERS:
                rows.append(CoverageRow(name, number, "done", note(handler_of(name))))
            elif name in REFUSED:
                rows.append(CoverageRow(name, number, "refused", REFUSED[name]))
            else:
                rows.append(CoverageRow(name, number, "todo", ""))
        return rows

    def tell_once(self, text: str) -> None:
        """One line for the user, the first time only."""
        if text not in self._told:
            self._told.add(text)
            self.warn(text)

    def stuck(self, text: str) -> None:
        """The guest waits, and nothing but a signal from outside can end that, for which it may have a handler."""
        if self.on_stuck is not None:
            self.on_stuck()
        if all(action["handler"] in (signals.SIG_DFL, signals.SIG_IGN) for action in self.signals.actions.values()):
            self.tell_once(text)

    def _unknown(self, number: int) -> int:
        name = self.abi.CALLS.get(number)
        if name not in REFUSED:
            what = f"{name} (number {number})" if name else f"number {number}"
            self.tell_once(f"system call {what} is not implemented; the guest gets ENOSYS")
        return -errno.ENOSYS

    # Program start ----------------------------------------------------------------------------------------

    def start(self, image: Image, loader: Image | None = None, name: bytes | None = None) -> tuple[int, int]:
        """Load a program, with its loader if it has one, and build its stack: (first instruction, stack pointer)."""
        bias = self.abi.PIE_BASE if image.position_independent else 0
        loaded = load(self.space, image, bias)
        first, base, self.loader = loaded.entry, 0, None
        if loader is not None:
            place = self.space.free(loader.size) if loader.position_independent else 0
            helper = self.loader = load(self.space, loader, place)
            first, base = helper.entry, helper.bias
        self.loaded = loaded
        if name is not None:
            self.thread.name = os.path.basename(name)[:15]
        self.break_start = self.break_end = page_up(loaded.brk_start)
        stack.reserve(self.space, loaded, self.limits.stack())
        shared = self._vdso
        page = self._map_vdso(shared.page)
        self.sigreturn = page + shared.sigreturn
        pointer, self.auxiliary = stack.build(
            self.space, self.abi, loaded, base=base, vdso=page, argv=self.argv, env=self.env,
            executable=os.fsencode(self.executable) if name is None else name, random=self.random_bytes(16),
            size=self.limits.stack())
        return first, pointer

    @cached_property
    def _vdso(self) -> vdso.Vdso:
        """Made once: a child that executes a program has its parent's."""
        return vdso.vdso(self.abi)

    def _map_vdso(self, content: bytes) -> int:
        """Give the guest code of the kernel's: its address."""
        page = self.space.map(0, self.abi.PAGE_SIZE, READ | WRITE, name="[vdso]")
        self.space.write(page, content)
        self.space.protect(page, self.abi.PAGE_SIZE, READ | EXEC)
        return page

    def check(self, program: Program) -> None:
        """Raise NotRunnable where `start` could not have room for a program."""
        for image in filter(None, (program.image, program.loader)):
            bias = self.abi.PIE_BASE if image.position_independent else 0
            if image.segments[-1].end + bias > self.space.size - self.limits.stack() - PAGE_SIZE:
                raise NotRunnable(f"{image.name}: a segment ends beyond the guest's address space", errno.ENOMEM)

    def execute(self, program: Program, env: list[bytes]) -> tuple[int, int]:
        """Have another program in place of this one, as `start`. Raises Killed, since the old one is gone."""
        if self.sharing is not None:
            self.sharing.tell()
        self.argv, self.env, self.executable = list(program.argv), env, os.fsdecode(program.path)
        self.descriptors.close_on_exec()
        self.signals.execute()
        if "alarms" in self.__dict__:
            self.alarms.execute()
        release(self, self.thread)
        self.thread.rseq = None
        self.threads.only(self.pid)
        self.futexes.clear()
        self.space.unmap(0, self.space.size)
        self.space.sealed.clear()
        self.attached.clear()
        self.barriers = 0
        try:
            return self.start(program.image, program.loader, program.name)
        except (NotRunnable, OSError) as error:
            self.tell_once(f"{error}; the guest had given up its old program by then, and is killed")
            raise Killed(_SIGKILL) from error

    def next_process(self) -> tuple[int | None, int | None]:
        """The number and the seed of a child, where a seed decides them."""
        if self.random is None:
            return None, None
        return self.random.randrange(*_PIDS) if self.deterministic else None, self.random.getrandbits(64)

    def let_go(self) -> None:
        """All threads end with the process: others that share memory with it learn of locks that they held."""
        for thread in self.threads.all.values():
            leave_locks(self, thread)

    def end_thread(self, thread: Thread) -> None:
        """A thread is gone, and others are not."""
        self.threads.remove(thread)
        self.family.remove(thread.tid)
        for number in siginfo.numbers(self.signals.shared.bits):
            self.signals.rouse(number)
        self.signals.changed()

    def begin_child(self, pid: int, seed: int | None) -> None:
        """We are a process of our own now."""
        self.child = True
        self.pid = pid
        self.family.add(pid, os.getpid())
        self.threads.only(pid)
        self.thread.robust_list, self.thread.call = (0, 0), None
        self.futexes.clear()
        self.moved()
        self.descriptors.moved()
        if seed is not None:
            self.random = _random(seed)
        sleeping.calls().arrived()  # what was noted is the parent's
        self.signals.begin_child()
        if self.signalfds:
            from dbt.linux.signalfds import begin_child

            begin_child(self)
        if "alarms" in self.__dict__:
            self.alarms.begin_child()

    def end(self) -> None:
        """The guest has ended."""
        if self.sharing is not None:
            self.sharing.tell()

    def close(self) -> None:
        """Close the guest's descriptors (not those handed in), and end its timers."""
        self.descriptors.close_all()
        for each in self.signalfds.values():
            os.close(each.descriptor)
        self.signalfds.clear()
        if "alarms" in self.__dict__:
            self.alarms.close()

    # What handlers share ----------------------------------------------------------------------------------

    def fd(self, guest: int) -> int:
        """The host's descriptor for a C int argument; EBADF."""
        return self.descriptors.host(int32(guest))

    def path(self, address: int) -> bytes:
        """A path argument; ENAMETOOLONG, EFAULT."""
        return self.space.read_cstring(address, 4096)

    def at(self, directory: int, path: bytes, *, empty: bool = False, follow: bool = True) -> tuple[int, bytes]:
        """(host directory descriptor, host path) for an *at call's pair; ENOENT for "" unless it is allowed.

        `follow`: what a link at the end leads to is meant, not the link.
        """
        path = self.whole(directory, path)
        if path.startswith(b"/"):
            return -100, paths.host_path(self, path, follow)
        if not path and not empty:
            raise failure(errno.ENOENT)
        directory = int32(directory)
        return (-100 if directory == -100 else self.descriptors.host(directory)), path

    def whole(self, directory: int, path: bytes) -> bytes:
        """A path; an absolute one, where it is relative to a folder below /proc that is the guest's own."""
        place = b"" if path[:1] in (b"/", b"") else self.place(directory)
        return place + b"/" + path if place else path

    def place(self, directory: int) -> bytes:
        """What such a folder is called, by its descriptor or AT_FDCWD; b"" if it is any other; EBADF."""
        directory = int32(directory)
        if directory != -100:
            entry = self.descriptors.get(directory)
            if entry.place is None:
                entry.place = paths.place(os.readlink(b"/proc/self/fd/%d" % entry.host))
            return entry.place
        if self._working is None:
            self._working = paths.place(os.readlink(b"/proc/self/cwd"))
        return self._working

    def moved(self) -> None:
        """There is another working folder."""
        self._working = None

    def blocking(self, name: str, *arguments: object) -> int:
        """Make a host system call that may sleep; OSError if it fails.

        Arguments are integers, bytes, None or ctypes arrays. A signal for the guest that is pending, or that comes,
        ends it at once: Interrupted, which `call` turns into EINTR or a restart as Linux does for that call. It may
        be made several times: a timeout that counts from its begin is shortened (`dbt.linux.blocking`), but a
        sleep, or a wait for a futex, must be given its end.
        """
        if self.threads.several:
            from dbt.linux import waiting

            return waiting.call(self, name, arguments)
        signals = self.signals
        if not self.deterministic or self.alarms.due is None:
            return sleeping.blocking(name, arguments, signals.interrupting, masked=self.thread.replaced)
        with self.alarms.waking():
            return sleeping.blocking(name, arguments, signals.interrupting, masked=self.thread.replaced)

    @property
    def thread(self) -> Thread:
        """The one that runs."""
        return self.threads.current

    @cached_property
    def alarms(self) -> Timers:
        """Timers that end in a signal, made for the first one."""
        from dbt.linux.timers import Timers

        return Timers(self)

    def _collect(self) -> None:
        """Send the guest what the host has told us of."""
        made = sleeping.calls()
        infos = made.arrived()
        if not infos:
            return
        from dbt.linux.timers import NOTICE, notice

        for info in infos:
            number = int.from_bytes(info[:4], "little")
            if number != NOTICE or not notice(info):
                self.signals.send(number, self._translated(info))
        if len(infos) >= made.room and self.signals.mirror is not None:
            self.signals.mirror.unblock()

    def _translated(self, info: bytes) -> bytes:
        """A siginfo of the host's with the guest's number of the process that it comes from."""
        pid = int.from_bytes(info[16:20], "little", signed=True)
        return info[:16] + self.family.guest(pid).to_bytes(4, "little", signed=True) + info[20:]

    def source(self, address: int, length: int) -> tuple[int, int]:
        """The host address of a buffer to read from, and how much of it the guest may read.

        If that is nothing, all of it: the host's kernel may not read there either, and says EFAULT where it would have
        to. EFAULT at once for what is no address of a program.
        """
        try:
            return self.space.source(address, length), length
        except MemoryFault as fault:
            return self.space.base + address, self._before(fault, address, length)

    def target(self, address: int, length: int) -> tuple[int, int]:
        """The same for a buffer to write to."""
        try:
            return self.space.target(address, length), length
        except MemoryFault as fault:
            before = self._before(fault, address, length)
            if fault.address != address:
                self.space.target(address, before)
            return self.space.base + address, before

    def _before(self, fault: MemoryFault, address: int, length: int) -> int:
        """How many bytes before a fault a call may be asked for, or all."""
        if fault.address != address:
            return fault.address - address
        if address + length > self.space.size:
            raise fault
        return length

    def readable(self, address: int, length: int) -> int:
        """How much of a buffer the guest could read; EFAULT if nothing."""
        return self._reach(address, length, READ)

    def writable(self, address: int, length: int) -> int:
        return self._reach(address, length, WRITE)

    def _reach(self, address: int, length: int, protection: int) -> int:
        try:
            self.space.check(address, length, protection)
        except MemoryFault as fault:
            if fault.address == address:
                raise
            return fault.address - address
        return length

    def layout(self, name: str) -> Layout:
        return layout(self.abi, name)

    def put(self, address: int, structure: str, **values: object) -> None:
        """Write a structure to the guest."""
        self.space.write(address, self.layout(structure).pack(values))

    def take(self, address: int, structure: str) -> dict[str, int]:
        """Read a structure of the guest's."""
        form = self.layout(structure)
        return form.unpack(self.space.read(address, form.size))

    def take_time(self, address: int) -> int:
        """A timespec as nanoseconds; EINVAL."""
        value = self.take(address, "timespec")
        if value["tv_sec"] < 0 or not 0 <= value["tv_nsec"] < 1_000_000_000:
            raise failure(errno.EINVAL)
        return value["tv_sec"] * 1_000_000_000 + value["tv_nsec"]

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count) if self.random is None else self.random.randbytes(count)

    @property
    def deterministic(self) -> bool:
        return self.seed is not None

    def virtual_time(self) -> int:
        """Nanoseconds since the start: one a retired instruction, and what was slept."""
        return self.clock() + self.slept


def _random(seed: int) -> Random:
    from random import Random  # runs with a seed only

    return Random(seed)


def _warn(text: str) -> None:
    sys.stderr.write(f"dragoman: {text}\n")
    sys.stderr.flush()
