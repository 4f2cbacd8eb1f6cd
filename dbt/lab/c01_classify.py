"""C01: sensitive and privileged instructions, found by executing each; what is sensitive must trap in user mode.

Of RISC-V each row of a machine's hart is executed by the reference interpreter, CSR instructions once for each CSR, in
supervisor mode, with two states of the privileged registers, and in user mode. Of x86-64 some are executed in user mode
by this host's own processor.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from dbt.lab.report import Report
from dbt.lab.workbench import RAM, hart, riscv, supervise
from dbt.machine.vm import Vcpu
from guests.decode import layout
from guests.riscv import privileged as p
from guests.spec import Decoded, Guest

DATA, HANDLER = RAM + 0x8000, RAM + 0x4000
PAGE = 1 << 12
SAMPLES = 6  # words of a row, of which at least one has to be legal
A0, A1 = 10, 11
CONTEXT = 1 << 63 | p.FS  # bits of mstatus that say only whether floating-point registers were written
STATE = {  # privileged state, and how it is another the second time; neither maps anything or bars memory
    "mstatus": (CONTEXT, p.SPP | p.SPIE | p.SIE | p.SUM | p.MXR), "mcounteren": (7, 0), "menvcfg": (p.STCE, 0),
    "mie": (0, p.SSI), "mip": (0, p.SSI), "mideleg": (p.SSI | p.STI, 0), "mscratch": (0, 5), "mepc": (0, 4),
    "mcause": (0, 7), "mtval": (0, 5), "mhartid": (0, 3), "stvec": (HANDLER, 0x100), "sscratch": (0, 5), "sepc": (0, 4),
    "scause": (0, 9), "stval": (0, 5), "satp": (0, 5), "stimecmp": (1 << 60, 5), "senvcfg": (0, p.FIOM),
    "scounteren": (0, 2), "time_offset": (0, 5),
}  # fmt: skip


class Outcome(NamedTuple):
    """What an instruction did: the trap's cause, 0 for none; what a program sees of it, and what of privileged state.
    """

    trap: int
    seen: tuple[object, ...]
    privileged: tuple[int, ...]


class Verdict(NamedTuple):
    """`sensitive` says why, "" if it is not."""

    name: str
    traps: bool  # in user mode, where it does not in supervisor mode
    sensitive: str


class Executor:
    """Executes one instruction after the other, each from the same state."""

    def __init__(self, guest: Guest) -> None:
        self.vcpu: Vcpu = hart([], "reference")
        supervise(self.vcpu, HANDLER)
        slots = self.vcpu.state.slots
        for name, (value, _) in STATE.items():
            slots[p.SLOT[name]] = value
        for register in guest.registers:
            if register.kind == "x" and register.name != "x0":
                slots[register.slot] = DATA + 64 * register.slot
        self._base = bytes(slots)
        self._user = [r.slot for r in guest.registers if r.kind in ("x", "f", "csr", "reservation")]
        self._privileged = [r.slot for r in guest.registers if r.kind == "privileged"]
        self._content = Random(1).randbytes(PAGE)

    def run(self, word: int, length: int, mode: int, varied: bool) -> Outcome:
        """Execute a word in a mode; `varied`: with the second state."""
        vcpu, slots, memory = self.vcpu, self.vcpu.state.slots, self.vcpu.vm.memory
        vcpu.state.restore(self._base)
        if varied:
            for name, (_, bits) in STATE.items():
                slots[p.SLOT[name]] ^= bits
        slots[p.PRIVILEGE] = mode
        for page in range(-1, 2):
            memory.poke(DATA + page * PAGE, self._content)
        memory.poke(RAM, word.to_bytes(length, "little"))
        vcpu.state.pc, vcpu.state.mid_block = RAM, False
        vcpu.space.forget()
        before = [slots[slot] for slot in self._privileged]
        stop = vcpu.engine.step()
        after = [slots[slot] for slot in self._privileged]
        changed = [new ^ old if slot != p.MSTATUS else (new ^ old) & ~CONTEXT
                   for slot, old, new in zip(self._privileged, before, after)]  # fmt: skip
        seen = (*(slots[slot] for slot in self._user), vcpu.state.pc, memory.peek(DATA - PAGE, 3 * PAGE))
        return Outcome(stop.cause if stop.trap else 0, () if stop.trap else seen, () if stop.trap else tuple(changed))

    def verdict(self, name: str, word: int, length: int) -> Verdict:
        """The two of supervisor mode, the two of user mode, compared."""
        one, other = (self.run(word, length, p.SUPERVISOR, varied) for varied in (False, True))
        user = self.run(word, length, p.USER, False)
        why = ""
        if any(one.privileged) or any(other.privileged):
            why = "changes privileged state"
        elif one.seen != other.seen:
            why = "depends on privileged state"
        elif not user.trap and user.seen != one.seen:
            why = "depends on the mode"
        return Verdict(name, user.trap != 0 and one.trap == 0, why)


def words_of(guest: Guest) -> Iterator[tuple[str, Decoded]]:
    """A word of each row, and of each CSR to write and to read it. Compressed forms are short for others."""
    rng = Random(2)
    for row in guest.rows:
        if row.extension in ("c", "zcb", "zcmop") or row.name.startswith("csr"):
            continue
        shape = layout(row.pattern)
        for _ in range(SAMPLES):
            noise = rng.getrandbits(32) & ~(31 << 15 | 31 << 20 | 31 << 7) | A0 << 15 | A1 << 20 | 12 << 7
            decoded = guest.decode((noise & ~shape.mask | shape.match) & 0xFFFF_FFFF)
            if decoded is not None and decoded.row is row:
                yield row.name, decoded
                break
    for number in range(1 << 12):
        for how, word in (("csrr", A0 << 7 | 2 << 12), ("csrw", A1 << 15 | 1 << 12)):
            decoded = guest.decode(number << 20 | word | 0x73)
            if decoded is not None:
                yield f"{how} {guest.disassemble(decoded, 0).split(', ')[1]}", decoded


def table(guest: Guest) -> list[Verdict]:
    """The verdict on every instruction that does something in supervisor mode."""
    executor = Executor(guest)
    found = []
    for name, decoded in words_of(guest):
        found.append(executor.verdict(name, decoded.word, decoded.length))
    executor.vcpu.vm.close()
    return found


# --- x86-64, on this host ---------------------------------------------------------------------------------------------

X86 = {  # name: code, with rdi leading to 64 bytes; what it touches of the system; "" for none
    "pushf; clear IF; popf": ("9c 48812424fffdffff 9d 9c 58", "IF, which popf leaves as it is, and nobody is told"),
    "pushf": ("9c 58", "shows IF and IOPL"),
    "lar": ("b82b000000 0f02c0", "the descriptor tables"), "lsl": ("b82b000000 0f03c0", "the descriptor tables"),
    "verr": ("b82b000000 0f00e0", "the descriptor tables"),
    "str": ("0f00c8", "the task register"), "sldt": ("0f00c0", "the table register"),
    "sgdt": ("0f0107", "the table register"), "sidt": ("0f010f", "the table register"),
    "smsw": ("0f01e0", "control register 0"),
    "cli": ("fa", "IF"), "hlt": ("f4", "the processor"), "lgdt": ("0f0117", "the table register"),
    "mov rax, cr0": ("0f20c0", "control register 0"), "rdmsr": ("0f32", "a model-specific register"),
    "in al, dx": ("ec", "a port"), "invlpg": ("0f013f", "the TLB"), "add": ("4801f8", ""),
}  # fmt: skip


def on_this_host(code: bytes) -> int:
    """Execute code in a child of this process, in user mode; the signal that it got, 0 for none."""
    page = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code + b"\xc3")
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    room = ctypes.create_string_buffer(64)
    child = os.fork()
    if not child:
        for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGTRAP):
            signal.signal(number, signal.SIG_DFL)
        call(ctypes.addressof(room))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def run(report: Report) -> None:
    guest = riscv()
    verdicts = table(guest)
    sensitive = [each for each in verdicts if each.sensitive]
    loose = [each for each in sensitive if not each.traps]
    report.say(f"RISC-V, supervisor against user mode: {len(verdicts)} instructions executed, three times each")
    report.show(f"{'sensitive':16} {'in user mode':14} why")
    for each in sensitive:
        report.show(f"{each.name:16} {'traps' if each.traps else 'does not trap':14} {each.sensitive}")
    harmless = [each.name for each in verdicts if each.traps and not each.sensitive]
    report.show(f"privileged, and without an effect here: {', '.join(harmless)}")
    report.figure("executed", len(verdicts))
    report.figure("sensitive", len(sensitive))
    report.figure("privileged (trap in user mode, not in supervisor mode)", sum(each.traps for each in verdicts))
    names = {each.name for each in sensitive}
    report.check({"sret", "wfi", "csrw satp", "csrr sepc", "csrr sstatus"} <= names,
                 "sret, wfi and supervisor's CSRs are sensitive")  # fmt: skip
    report.check(not {"add", "ld", "sd", "jalr", "fadd.d", "amoadd.w", "csrr fflags"} & names,
                 "what works on a program's own registers and memory is not")  # fmt: skip
    report.check(not loose, "sensitive instructions are privileged ones: a classical monitor can be made for RISC-V")
    if platform.machine() == "x86_64":
        report.say("x86-64, in user mode of this host's processor")
        silent = []
        for name, (code, touches) in X86.items():
            number = on_this_host(bytes.fromhex(code))
            report.show(f"{name:24} {signal.Signals(number).name if number else 'goes on':10} {touches}")
            silent += [name] if touches and not number else []
        report.check({"pushf; clear IF; popf", "pushf", "lar"} <= set(silent) and "hlt" not in silent,
                     "sensitive ones go on without a trap: no classical monitor can be made for x86-64")  # fmt: skip
    report.say("A32 and A64 are not computed: there is no core of theirs here to execute them")
