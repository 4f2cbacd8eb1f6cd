"""The ways in which a hart can have a guest of a virtual machine, and the switch between it and its monitor.

    Direct      the hart's supervisor and user mode are the guest's. A trap that is the monitor's ends the run before it
                has an effect, and what a hypervisor would find in its registers is worked out
    Nesting     the same, and the hart has the hypervisor extension: the guest is a hypervisor, which begins in HS mode
    Hypervised  the guest has VS and VU mode of a hart with the hypervisor extension, and the monitor HS mode: `sret`
                enters the guest, a trap leaves it, and what HS mode's registers hold of it is what the hart put there
    Deprivileged  the guest has user mode of a hart without the extension, its supervisor as well, and the monitor
                supervisor mode: what the guest may not do is a trap, and its registers and tables are others than the
                hart's

Owns: which registers of a hart are the guest's, what a monitor prepares, the switch (Privileged ISA, "H" Extension).
Must not know: memory, exits, what a monitor answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, Protocol

from guests.riscv import hypervisor_csrs, kvm, privileged_csrs, privileged_insns, privileged_traps, sbi, traps
from guests.riscv import privileged as p
from guests.riscv.kvm import BREAKPOINT, CALL, GUEST_FAULTS, STAYS, VSXL, Register, VmExit
from guests.riscv.privileged_csrs import SSTATUS
from guests.riscv.registers import SINK


class Trap(Protocol):
    """What a run was ended by."""

    cause: int
    value: int


class Direct:
    """The hart's own two modes are the guest's."""

    firmware: ClassVar[type[sbi.Firmware]] = sbi.Firmware
    compare = p.STIMECMP
    timer_cause = privileged_traps.INTERRUPT | p.STI.bit_length() - 1  # as a hart takes it, in mcause
    timer = compare  # the slot of the time at which that is due

    def __init__(self, features: frozenset[str]) -> None:
        """`features`: the extensions of the guest."""
        self.registers: dict[int, Register] = kvm.one_regs(features, self.table(features), self)

    @staticmethod
    def table(features: frozenset[str]) -> dict[int, Any]:
        """The CSRs of the hart."""
        return privileged_csrs.table(features - {"system"})

    @staticmethod
    def csr(number: int) -> int:
        return number

    @staticmethod
    def pc(hart: Any) -> int:
        found: int = hart.state.pc
        return found

    @staticmethod
    def set_pc(hart: Any, value: int) -> None:
        hart.state.pc, hart.state.mid_block = value, False

    @staticmethod
    def mode(hart: Any) -> int:
        found: int = hart.state.slots[p.PRIVILEGE]
        return found

    @staticmethod
    def set_mode(hart: Any, mode: int) -> None:
        hart.state.slots[p.PRIVILEGE] = mode

    def fetch(self, hart: Any, address: int) -> int:
        """The instruction there, or its first half, as the guest would fetch it. Raises Trap."""
        found: int = hart.space.fetch(address)
        return found

    def load(self, hart: Any, address: int, size: int) -> int:
        """From an address of the guest's, as it would load. Raises Trap."""
        found: int = hart.space.load(address, size)
        return found

    @staticmethod
    def interrupt(hart: Any, level: bool) -> None:
        """Raise or lower the guest's external interrupt."""
        hart.set_line("supervisor external", level)

    @staticmethod
    def leaves(debug: bool) -> dict[int, int]:
        """By mode: causes, as bits, of traps that end a run; with `debug` those of breakpoints as well."""
        more = BREAKPOINT if debug else 0
        return {p.USER: STAYS | more, p.SUPERVISOR: STAYS | CALL | more}

    def enter(self, hart: Any, waiting: bool) -> None:
        """The guest is entered. `waiting`: that it waits for an interrupt is to be the monitor's affair, if it can."""

    def leave(self, hart: Any, trap: Trap | None) -> None:
        """The guest is left, by a trap, or for a reason of the monitor's own (None)."""

    @staticmethod
    def seen(hart: Any, trap: Trap, absent: int | None) -> VmExit:
        """The trap that ended the run, as HS mode would find it. `absent`: the address at which there is no memory."""
        mode = hart.state.slots[p.PRIVILEGE]
        scause = GUEST_FAULTS.get(trap.cause, trap.cause) if absent is not None else trap.cause
        if trap.cause == traps.USER_ECALL and mode == p.SUPERVISOR:
            scause = kvm.SUPERVISOR_CALL
        status = VSXL | p.SPV | (p.SPVP if mode == p.SUPERVISOR else 0)
        status |= p.H_GVA if scause in traps.ADDRESS_VALUES else 0
        return VmExit(scause, trap.value, hart.state.pc, 0 if absent is None else absent >> 2, 0, status)

    def redirect(self, hart: Any, cause: int, value: int) -> None:
        """The guest's own handler takes a trap at its pc."""
        hart.enter_trap(cause, value)


class Nesting(Direct):
    """The same of a hart with the hypervisor extension: the guest begins in HS mode, and has guests of its own in VS
    mode. What these do is its affair, and natively so, but for where there is no memory: that is the monitor's.
    """

    timer_cause = privileged_traps.INTERRUPT | p.VSTI.bit_length() - 1
    timer = p.VSTIMECMP  # the innermost guest's

    @staticmethod
    def table(features: frozenset[str]) -> dict[int, Any]:
        return hypervisor_csrs.table(features - {"system"})

    @staticmethod
    def leaves(debug: bool) -> dict[int, int]:
        absent = sum(1 << cause for cause in GUEST_FAULTS)
        return Direct.leaves(debug) | {GUEST_MODES + p.USER: absent, GUEST_MODES + p.SUPERVISOR: absent}


class GuestFirmware(sbi.Firmware):
    """What answers the calls of a guest in VS mode: HS mode's, which has the guest's timer and interrupts."""

    timer, software, guests = p.VSTIMECMP, p.VSSI, False

    def begin(self, argument: int) -> None:
        super().begin(argument)
        prepare(self._slots)


def prepare(s: Any) -> None:
    """HS mode as the monitor has it, and a guest that begins in VS mode: hstatus.SPV and sstatus.SPP are what `sret`
    goes by. Floating point is on for HS mode, so that vsstatus alone says whether the guest has it.
    """
    s[p.MSTATUS] |= p.SPP | p.FS
    s[p.HSTATUS] = VSXL | p.SPV | p.SPVP
    s[p.HIDELEG] = p.GUEST_INTERRUPTS
    s[p.HCOUNTEREN] = (1 << 32) - 1
    s[p.HENVCFG] = s[p.MENVCFG]
    s[p.VSTIMECMP] = p.ALL


class Hypervised(Direct):
    """The guest has VS and VU mode, and the monitor is HS mode: between two runs the hart is in it.

    The guest's pc is sepc then, its mode sstatus.SPP, and what it calls sstatus is vsstatus.
    """

    firmware = GuestFirmware
    compare = timer = p.VSTIMECMP
    timer_cause = privileged_traps.INTERRUPT | p.VSTI.bit_length() - 1
    handler = 0  # where traps to HS mode go. Nothing is executed there: the monitor is not the hart's code

    def __init__(self, features: frozenset[str]) -> None:
        super().__init__(features)
        self.hgatp = 0  # the tables of guest physical addresses

    @staticmethod
    def table(features: frozenset[str]) -> dict[int, Any]:
        return hypervisor_csrs.table(features - {"system"} | {"h"})

    @staticmethod
    def csr(number: int) -> int:
        """That of VS mode, if it has one."""
        return number if number in SHARED else number + 0x100

    @staticmethod
    def pc(hart: Any) -> int:
        found: int = hart.state.slots[p.SEPC]
        return found

    @staticmethod
    def set_pc(hart: Any, value: int) -> None:
        hart.state.slots[p.SEPC] = value

    @staticmethod
    def mode(hart: Any) -> int:
        return p.SUPERVISOR if hart.state.slots[p.MSTATUS] & p.SPP else p.USER

    @staticmethod
    def set_mode(hart: Any, mode: int) -> None:
        """Both for `sret`, and for accesses of the guest's memory in the meantime."""
        s = hart.state.slots
        for slot, bit in ((p.MSTATUS, p.SPP), (p.HSTATUS, p.SPVP)):
            s[slot] = s[slot] & ~bit | (bit if mode == p.SUPERVISOR else 0)

    def fetch(self, hart: Any, address: int) -> int:
        found: int = hart.space.load_as("guest execute", address, 2)  # hlvx.hu
        return found

    def load(self, hart: Any, address: int, size: int) -> int:
        found: int = hart.space.load_as("guest load", address, size)  # hlv
        return found

    @staticmethod
    def interrupt(hart: Any, level: bool) -> None:
        """By hvip."""
        s = hart.state.slots
        s[p.MIP] = s[p.MIP] & ~p.VSEI | (p.VSEI if level else 0)
        hart.vm.attend()

    @staticmethod
    def leaves(debug: bool) -> dict[int, int]:
        """What hedeleg does not give the guest."""
        stays = p.ALL & ~hedeleg(debug)
        return {GUEST_MODES + p.USER: stays & ~CALL, GUEST_MODES + p.SUPERVISOR: stays | CALL}

    def enter(self, hart: Any, waiting: bool) -> None:
        """`sret` with hstatus.SPV set."""
        s = hart.state.slots
        s[p.HGATP] = self.hgatp
        s[p.HSTATUS] = s[p.HSTATUS] & ~p.VTW | p.SPV | (p.VTW if waiting else 0)
        s[p.HEDELEG] = hedeleg(bool(hart.leaves[GUEST_MODES + p.SUPERVISOR] & BREAKPOINT))
        s[p.STVEC] = self.handler
        m = hart.at_rest()
        privileged_insns.sret.body(m, None)
        hart.state.pc, hart.state.mid_block = m.next, False

    def leave(self, hart: Any, trap: Trap | None) -> None:
        """By the trap, or by an interrupt of HS mode's own timer, which no guest can mask."""
        if trap is not None:
            hart.enter_trap(trap.cause, trap.value)
            return
        s = hart.state.slots
        s[p.MIE] |= p.STI
        s[p.STIMECMP] = 0
        hart.set_timer()
        hart.interrupt()
        s[p.STIMECMP] = p.ALL
        hart.set_timer()
        s[p.MIE] &= ~p.STI

    @contextmanager
    def as_guest(self, hart: Any) -> Iterator[None]:
        """The monitor executes an instruction in the guest's place, for which guest physical addresses are physical
        ones, and which may wait. Afterwards the hart is in HS mode as before.
        """
        s = hart.state.slots
        kept = {slot: s[slot] for slot in (p.VIRTUAL, p.PRIVILEGE, p.HGATP, p.HSTATUS)}
        hart.state.pc, s[p.VIRTUAL], s[p.PRIVILEGE] = self.pc(hart), 1, self.mode(hart)
        s[p.HGATP] = 0
        s[p.HSTATUS] &= ~p.VTW & p.ALL
        try:
            yield
        finally:
            self.set_pc(hart, hart.state.pc)
            hart.state.pc, hart.state.mid_block = self.handler, False
            for slot, value in kept.items():
                s[slot] = value

    @staticmethod
    def seen(hart: Any, trap: Trap, absent: int | None) -> VmExit:
        return VmExit(*(hart.state.slots[slot] for slot in (p.SCAUSE, p.STVAL, p.SEPC, p.HTVAL, p.HTINST, p.HSTATUS)))

    def redirect(self, hart: Any, cause: int, value: int) -> None:
        """What a trap of VS mode would have done, by software."""
        s, m = hart.state.slots, hart.at_rest()
        before = p.SPP if s[p.MSTATUS] & p.SPP else 0
        s[p.VSSTATUS] = privileged_traps.kept(m, s[p.VSSTATUS], p.SIE, p.SPP, before)
        s[p.VSEPC], s[p.VSCAUSE], s[p.VSTVAL] = s[p.SEPC], cause, value
        s[p.SEPC] = s[p.VSTVEC] & ~3 & p.ALL
        self.set_mode(hart, p.SUPERVISOR)


class Frame(NamedTuple):
    """What the hart's own registers held of the last trap."""

    scause: int
    stval: int
    sepc: int
    sstatus: int
    satp: int
    sie: int


class Deprivileged(Direct):
    """The guest has the hart's user mode alone, for its supervisor too. Between two runs the hart's registers are the
    guest's own, its virtual CSRs, as with `Direct`; while it runs, those in `SWITCHED` are its monitor's.
    """

    SWITCHED = (
        p.PRIVILEGE, p.MSTATUS, p.MIE, p.SATP, p.MEDELEG, p.SCOUNTEREN, p.SENVCFG, p.STVEC, p.SEPC, p.SCAUSE, p.STVAL,
    )  # fmt: skip
    FILLS: ClassVar[dict[int, str]] = {cause: access for access, cause in traps.FAULTS.items()}
    handler = 0  # where the hart's traps go: nothing is executed there, as with `Hypervised`

    def __init__(self, features: frozenset[str]) -> None:
        super().__init__(features)
        self.tables: Callable[[Any], int] = lambda hart: 0  # satp for the context in which a guest is
        self.spaces: dict[int, Any] = {}  # by the hart's number: its guest's addresses, by the guest's own tables
        self.frames: dict[int, Frame] = {}  # by the hart's number
        self.csrs = self.table(features)
        self._kept: list[int] = []

    def fetch(self, hart: Any, address: int) -> int:
        found: int = self.spaces[hart.number].fetch(address)
        return found

    def load(self, hart: Any, address: int, size: int) -> int:
        found: int = self.spaces[hart.number].load(address, size)
        return found

    @staticmethod
    def leaves(debug: bool) -> dict[int, int]:
        """All traps of user mode, in which the guest is; those of the mode in which it seems to be are for `stays`."""
        return {p.USER: p.ALL, p.SUPERVISOR: Direct.leaves(debug)[p.SUPERVISOR]}

    @staticmethod
    def stays(hart: Any, cause: int) -> bool:
        """Whether a trap that the guest has is its monitor's."""
        debug = bool(hart.leaves[p.SUPERVISOR] & BREAKPOINT)
        return bool(Direct.leaves(debug)[hart.state.slots[p.PRIVILEGE]] >> cause & 1)

    def enter(self, hart: Any, waiting: bool) -> None:
        """Interrupts are the hart's when the guest would take them, or waits for them."""
        s = hart.state.slots
        tables = self.tables(hart)
        user, status = s[p.PRIVILEGE] == p.USER, s[p.MSTATUS]
        self._kept = [s[slot] for slot in self.SWITCHED]
        s[p.SATP], s[p.PRIVILEGE], s[p.STVEC] = tables, p.USER, self.handler
        s[p.MSTATUS] = p.RESET["mstatus"] | status & p.FS | p.TW
        s[p.MEDELEG] = p.ALL
        if not (user or status & p.SIE or s[p.WAITING]):
            s[p.MIE] = 0
        if not user:  # what a supervisor may, as far as user mode can be let
            s[p.SCOUNTEREN], s[p.SENVCFG] = (1 << 32) - 1, p.CBIE | p.CBCFE | p.CBZE
        hart.leaves_interrupts = True

    def leave(self, hart: Any, trap: Trap | None) -> None:
        """The hart takes the trap; its registers are the guest's again, at whose instruction it was taken."""
        s = hart.state.slots
        if trap is not None:
            hart.enter_trap(trap.cause, trap.value)
            frame = Frame(s[p.SCAUSE], s[p.STVAL], s[p.SEPC], s[p.MSTATUS] & SSTATUS, s[p.SATP], s[p.MIE])
            self.frames[hart.number] = frame
            hart.state.pc = s[p.SEPC]
        used = s[p.MSTATUS] & p.FS
        for slot, value in zip(self.SWITCHED, self._kept):
            s[slot] = value
        s[p.MSTATUS] = s[p.MSTATUS] & ~p.FS | used

    def redirect(self, hart: Any, cause: int, value: int) -> None:
        """What a trap of the guest's own hart would have done: this hart takes none."""
        hart.state.pc = privileged_traps.enter(hart.at_rest(), hart.state.pc, cause, value)
        hart.state.mid_block = False

    @contextmanager
    def as_guest(self, hart: Any) -> Iterator[None]:
        """The hart's registers are the guest's already."""
        yield

    def real(self, hart: Any) -> dict[str, int]:
        """What the hart's own registers held of the last trap, by name; nothing before the first."""
        frame = self.frames.get(hart.number)
        return {} if frame is None else frame._asdict()

    def named(self, decoded: Any) -> str:
        """An instruction that was emulated, for counts: a register by its name."""
        if decoded.row.extension == "zicsr":
            return f"csr {self.csrs[decoded.operands.csr].name}"
        return str(decoded.row.name)

    def written(self, decoded: Any) -> str:
        """The same as people write it: `csrw satp`."""
        row, o = decoded.row, decoded.operands
        if row.extension != "zicsr":
            return self.named(decoded)
        name = row.name.replace("csrr", "csr", 1) if o.rd == SINK else row.name
        name = "csrr" if row.syntax.endswith((", zero", ", 0")) else name
        return f"{name} {self.csrs[o.csr].name}"

    @staticmethod
    def fenced(hart: Any, decoded: Any) -> tuple[int | None, int | None] | None:
        """Which entries of its tables the guest has told of, by a fence: those of an address or all, those of a number
        (ASID) or all. None for any other instruction.
        """
        if decoded.row.name not in ("sfence.vma", "sinval.vma"):
            return None
        o, x = decoded.operands, hart.state.slots
        return x[o.rs1] if o.rs1 else None, x[o.rs2] & 0xFFFF if o.rs2 else None

    @staticmethod
    def accesses_nothing(decoded: Any) -> bool:
        """Whether an instruction only asks whether it may load or store: its fault is a store's, but marks nothing."""
        return decoded.row.extension == "zicbom"


SHARED = (0x106, 0x10A)  # scounteren, senvcfg: there is one of each
GUEST_MODES = 4  # the mode, by its number for counts, of a guest's mode 0


def hedeleg(debug: bool) -> int:
    """Exceptions that the guest takes by itself."""
    return hypervisor_csrs.HEDELEG & ~STAYS & ~(BREAKPOINT if debug else 0)
