"""System calls on the process itself: exit, identity, limits, scheduling facts.

Must not know: files, memory mapping, signals' actions.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from dbt.linux import host
from dbt.linux.exits import ExitGroup, Yields
from dbt.linux.host import failure, identity, int32
from dbt.memory import READ, WRITE

if TYPE_CHECKING:
    from dbt.linux.kernel import Kernel

_RELEASE, _VERSION = "6.1.0", "#1 SMP"  # of deterministic runs
_HWPROBE_WHICH_CPUS = 1

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 1, 2, 3, 4
_PR_SET_NAME, _PR_GET_NAME, _PR_CAPBSET_READ, _PR_SET_TIMERSLACK, _PR_GET_TIMERSLACK = 15, 16, 23, 29, 30
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39


# The end ----------------------------------------------------------------------------------------------------


def exit_group(kernel: Kernel, status: int) -> None:
    raise ExitGroup(status & 0xFF)


# Identity ---------------------------------------------------------------------------------------------------


def getpid(kernel: Kernel) -> int:
    return kernel.pid


def getppid(kernel: Kernel) -> int:
    parent = os.getppid()
    return 1 if kernel.deterministic and kernel.family.guest(parent) == parent else kernel.family.guest(parent)


def getuid(kernel: Kernel) -> int:
    return os.getuid()


def geteuid(kernel: Kernel) -> int:
    return os.geteuid()


def getgid(kernel: Kernel) -> int:
    return os.getgid()


def getegid(kernel: Kernel) -> int:
    return os.getegid()


def setuid(kernel: Kernel, user: int) -> None:
    os.setuid(user & 0xFFFFFFFF)


def setgid(kernel: Kernel, group: int) -> None:
    os.setgid(group & 0xFFFFFFFF)


def setreuid(kernel: Kernel, real: int, effective: int) -> None:
    os.setreuid(identity(real), identity(effective))


def setregid(kernel: Kernel, real: int, effective: int) -> None:
    os.setregid(identity(real), identity(effective))


def setresuid(kernel: Kernel, real: int, effective: int, saved: int) -> None:
    os.setresuid(identity(real), identity(effective), identity(saved))


def setresgid(kernel: Kernel, real: int, effective: int, saved: int) -> None:
    os.setresgid(identity(real), identity(effective), identity(saved))


def _put_three(kernel: Kernel, addresses: tuple[int, int, int], values: tuple[int, int, int]) -> None:
    for address, value in zip(addresses, values, strict=True):
        kernel.space.write(address, value.to_bytes(4, "little"))


def getresuid(kernel: Kernel, real: int, effective: int, saved: int) -> None:
    _put_three(kernel, (real, effective, saved), os.getresuid())


def getresgid(kernel: Kernel, real: int, effective: int, saved: int) -> None:
    _put_three(kernel, (real, effective, saved), os.getresgid())


def setfsuid(kernel: Kernel, user: int) -> int:
    return os.geteuid()  # the answer is the old one, changed or not; ours follows the effective id


def setfsgid(kernel: Kernel, group: int) -> int:
    return os.getegid()


def getgroups(kernel: Kernel, size: int, result: int) -> int:
    groups = os.getgroups()
    size = int32(size)
    if size < 0 or 0 < size < len(groups):
        raise failure(errno.EINVAL)
    if size:
        kernel.space.write(result, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


def setgroups(kernel: Kernel, size: int, groups: int) -> None:
    if not 0 <= int32(size) <= 65536:
        raise failure(errno.EINVAL)
    os.setgroups(struct.unpack(f"<{size}I", kernel.space.read(groups, 4 * size)))


def _process(kernel: Kernel, pid: int) -> int:
    """A pid argument as the host's: the guest's own may be made up."""
    return kernel.family.host(int32(pid))


def getpgid(kernel: Kernel, pid: int) -> int:
    return kernel.family.guest(os.getpgid(_process(kernel, pid)))


def setpgid(kernel: Kernel, pid: int, group: int) -> None:
    os.setpgid(_process(kernel, pid), _process(kernel, group))


def getsid(kernel: Kernel, pid: int) -> int:
    return kernel.family.guest(os.getsid(_process(kernel, pid)))


def setsid(kernel: Kernel) -> int:
    os.setsid()
    return kernel.pid


def uname(kernel: Kernel, result: int) -> None:
    names = os.uname()
    fixed = kernel.deterministic
    texts = {"sysname": "Linux", "nodename": "dragoman" if fixed else names.nodename,
             "release": kernel.release or (_RELEASE if fixed else names.release),
             "version": _VERSION if fixed else names.version, "machine": kernel.abi.MACHINE, "domainname": "(none)"}
    kernel.put(result, "utsname", **{name: os.fsencode(text)[:64] for name, text in texts.items()})


# Limits and usage ---------------------------------------------------------------------------------------------


def getrlimit(kernel: Kernel, resource: int, result: int) -> None:
    current, maximum = kernel.limits.get(int32(resource))
    kernel.put(result, "rlimit", current=current, maximum=maximum)


def setrlimit(kernel: Kernel, resource: int, limit: int) -> None:
    wanted = kernel.take(limit, "rlimit")
    kernel.limits.set(int32(resource), wanted["current"], wanted["maximum"])
    kernel.descriptors.limit = kernel.limits.descriptors()


def prlimit64(kernel: Kernel, pid: int, resource: int, new: int, old: int) -> None:
    if int32(pid) not in (0, kernel.pid):
        raise failure(errno.EPERM)
    before = kernel.limits.get(int32(resource))
    if new:
        setrlimit(kernel, resource, new)
    if old:
        kernel.put(old, "rlimit", current=before[0], maximum=before[1])


def getrusage(kernel: Kernel, who: int, result: int) -> None:
    size = kernel.layout("rusage").size
    if int32(who) not in (-1, 0, 1):
        raise failure(errno.EINVAL)
    if kernel.deterministic:
        seconds, rest = divmod(kernel.clock() if int32(who) != -1 else 0, 1_000_000_000)
        kernel.put(result, "rusage", ru_utime_sec=seconds, ru_utime_usec=rest // 1000)
        return
    found = ctypes.create_string_buffer(size)
    host.call("getrusage", int32(who), found)
    kernel.space.write(result, found.raw)


def sysinfo(kernel: Kernel, result: int) -> None:
    form = kernel.layout("sysinfo")
    if kernel.deterministic:
        kernel.put(result, "sysinfo", uptime=kernel.virtual_time() // 1_000_000_000, totalram=1 << 30,
                   freeram=1 << 29, procs=1, mem_unit=1)
        return
    found = ctypes.create_string_buffer(form.size + 64)
    host.call("sysinfo", found)
    kernel.space.write(result, found.raw[:form.size])


# Scheduling -----------------------------------------------------------------------------------------------------


def sched_yield(kernel: Kernel) -> None:
    if kernel.threads.several:
        raise Yields


def _processors(kernel: Kernel) -> set[int]:
    return {0} if kernel.deterministic else os.sched_getaffinity(0)


def _affinity_of(kernel: Kernel, pid: int) -> set[int]:
    number = _process(kernel, pid)
    own = kernel.deterministic and number in (0, os.getpid())
    return {0} if own else os.sched_getaffinity(number)


def sched_getaffinity(kernel: Kernel, pid: int, size: int, result: int) -> int:
    bits = sum(1 << processor for processor in _affinity_of(kernel, pid))
    needed = (bits.bit_length() + 63) // 64 * 8
    if size < needed or size % 8:
        raise failure(errno.EINVAL)
    kernel.space.write(result, bits.to_bytes(needed, "little"))
    return needed


def sched_setaffinity(kernel: Kernel, pid: int, size: int, mask: int) -> None:
    bits = int.from_bytes(kernel.space.read(mask, min(size, 1024)), "little")
    wanted = {number for number in range(bits.bit_length()) if bits >> number & 1}
    if not kernel.deterministic:
        os.sched_setaffinity(_process(kernel, pid), wanted)
    elif not wanted & _affinity_of(kernel, pid):
        raise failure(errno.EINVAL)


def sched_get_priority_max(kernel: Kernel, policy: int) -> int:
    return os.sched_get_priority_max(int32(policy))


def sched_get_priority_min(kernel: Kernel, policy: int) -> int:
    return os.sched_get_priority_min(int32(policy))


def getcpu(kernel: Kernel, processor: int, node: int, cache: int) -> None:
    for address in (processor, node):
        if address:
            kernel.space.write(address, bytes(4))


def getpriority(kernel: Kernel, which: int, who: int) -> int:
    return 20 - os.getpriority(int32(which), _process(kernel, who))


def setpriority(kernel: Kernel, which: int, who: int, priority: int) -> None:
    os.setpriority(int32(which), _process(kernel, who), int32(priority))


# Odds and ends ----------------------------------------------------------------------------------------------------


def prctl(kernel: Kernel, option: int, second: int, third: int, fourth: int, fifth: int) -> int:
    option = int32(option)
    if option == _PR_SET_NAME:
        kernel.thread.name = kernel.space.read(second, kernel.readable(second, 16)).split(b"\0")[0][:15]
    elif option == _PR_GET_NAME:
        kernel.space.write(second, kernel.thread.name.ljust(16, b"\0"))
    elif option == _PR_SET_NO_NEW_PRIVS:
        if second != 1 or third or fourth or fifth:
            raise failure(errno.EINVAL)
        kernel.no_new_privileges = 1
    elif option == _PR_GET_NO_NEW_PRIVS:
        return kernel.no_new_privileges
    elif option in (_PR_GET_DUMPABLE, _PR_CAPBSET_READ):
        return 1
    elif option == _PR_GET_TIMERSLACK:
        return 50_000
    elif option == _PR_SET_PDEATHSIG:
        if second > 64:
            raise failure(errno.EINVAL)
        host.call("prctl", option, second, 0, 0, 0)
    elif option in (_PR_GET_PDEATHSIG, _PR_GET_CHILD_SUBREAPER):
        found = ctypes.c_int()
        host.call("prctl", option, ctypes.addressof(found), 0, 0, 0)
        kernel.space.write(second, bytes(found))
    elif option == _PR_SET_CHILD_SUBREAPER:
        host.call("prctl", option, bool(second), 0, 0, 0)
    elif option not in (_PR_SET_DUMPABLE, _PR_SET_TIMERSLACK):
        raise failure(errno.EINVAL)
    return 0


def personality(kernel: Kernel, persona: int) -> int:
    """Kept, and without effect: addresses are the same in every run, and what is executable is what the guest says."""
    old = kernel.persona
    if persona & 0xFFFFFFFF != 0xFFFFFFFF:
        kernel.persona = persona & 0xFFFFFFFF
    return old


def riscv_hwprobe(kernel: Kernel, pairs: int, count: int, cpu_size: int, cpus: int, flags: int) -> None:
    """All processors are alike: the answer is the same for any set of them."""
    if flags & ~_HWPROBE_WHICH_CPUS or count > 4096 or (flags and not (cpu_size and cpus)):
        raise failure(errno.EINVAL)
    form, known = kernel.layout("hwprobe"), kernel.abi.HWPROBE
    kernel.space.check(pairs, form.size * count, READ if flags else WRITE)
    given = [form.unpack(kernel.space.read(pairs + index * form.size, form.size)) for index in range(count)]
    if not flags:
        answers = [form.pack({"key": pair["key"] if pair["key"] in known else -1, "value": known.get(pair["key"], 0)})
                   for pair in given]
        kernel.space.write(pairs, b"".join(answers))
        return
    online = sum(1 << processor for processor in _processors(kernel))
    wanted = int.from_bytes(kernel.space.read(cpus, cpu_size), "little") or online
    for pair in given:
        value = known.get(pair["key"])
        bits = pair["key"] in kernel.abi.HWPROBE_BITS
        if value is None or (value & pair["value"] if bits else value) != pair["value"]:
            wanted = 0
    kernel.space.write(cpus, (wanted & online).to_bytes(cpu_size, "little"))


CALLS: dict[str, Callable[..., int | None]] = {
    "exit_group": exit_group,
    "getpid": getpid, "getppid": getppid, "getuid": getuid, "geteuid": geteuid,
    "getgid": getgid, "getegid": getegid, "setuid": setuid, "setgid": setgid, "setreuid": setreuid,
    "setregid": setregid, "setresuid": setresuid, "setresgid": setresgid, "getresuid": getresuid,
    "getresgid": getresgid, "setfsuid": setfsuid, "setfsgid": setfsgid, "getgroups": getgroups,
    "setgroups": setgroups, "getpgid": getpgid, "setpgid": setpgid, "getsid": getsid, "setsid": setsid,
    "uname": uname, "getrlimit": getrlimit, "setrlimit": setrlimit, "prlimit64": prlimit64,
    "getrusage": getrusage, "sysinfo": sysinfo, "sched_yield": sched_yield,
    "sched_getaffinity": sched_getaffinity, "sched_setaffinity": sched_setaffinity,
    "sched_get_priority_max": sched_get_priority_max, "sched_get_priority_min": sched_get_priority_min,
    "getcpu": getcpu, "getpriority": getpriority, "setpriority": setpriority,
    "prctl": prctl, "personality": personality, "riscv_hwprobe": riscv_hwprobe,
}
