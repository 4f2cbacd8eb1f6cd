"""A hart with the hypervisor extension, a guest's memory behind a second stage: what rows about the extension share.

The guest's RAM is that of the machine, AWAY below it and where it is, by a leaf of the second stage each. Traps to HS
mode end in a loop.
Owns: this layout. Must not know: what is demonstrated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dbt.lab.workbench import RAM, asm, code_bytes, hart, supervise
from dbt.machine.vm import Vcpu
from guests.riscv import machine
from guests.riscv import privileged as p
from guests.spec import Guest

AWAY = 0x4000_0000
INSIDE, GUEST = RAM + 0x1000, RAM + 0x1000 - AWAY  # the guest's code in the machine, and for the guest
HANDLER = RAM + 0x3000
ROOT = RAM + 0x10_0000  # of the second stage: Sv39x4, 16 KiB
TABLES = RAM + 0x20_0000  # of a guest's own
GUEST_LEAF = 0xDF  # a leaf of the second stage: valid, all rights, user mode's, accessed and dirty
SPIN = 0x6F
ENGINES = ("reference", "translated")
SV39 = 8 << 60
MODES = {"U": (0, 0), "HS": (0, 1), "VU": (1, 0), "VS": (1, 1)}  # V and the privilege
NAMES = {place: name for name, place in MODES.items()}


class Seen(NamedTuple):
    """HS mode's registers, where a trap has come."""

    scause: int
    stval: int
    sepc: int
    htval: int
    hstatus: int


def with_h() -> Guest:
    """The guest of machines whose harts have the extension."""
    return machine.guest(hypervisor=True)


def csrr(rd: int, csr: int) -> int:
    """Read a CSR."""
    return asm(with_h(), "csrrs", rd=rd, csr=csr)


def hypervised(engine: str, words: Iterable[int], mode: str = "HS", at: int | None = None) -> Vcpu:
    """A hart that is about to execute these instructions in this mode: HS mode's at RAM, a guest's at GUEST."""
    inside = mode in ("VS", "VU")
    code = list(words)
    vcpu = hart([SPIN] if inside else code, engine, also={HANDLER: [SPIN], INSIDE: code}, hypervisor=True)
    supervise(vcpu, HANDLER)
    slots = vcpu.state.slots
    slots[p.MEDELEG] |= p.GUEST_EXCEPTIONS
    slots[p.MIDELEG] |= p.GUEST_INTERRUPTS
    slots[p.MCOUNTEREN] = slots[p.HCOUNTEREN] = slots[p.SCOUNTEREN] = 7
    for address in (RAM - AWAY, RAM):
        vcpu.vm.memory.write(ROOT + 8 * (address >> 30), 8, RAM >> 2 | GUEST_LEAF)
    slots[p.HGATP] = SV39 | ROOT >> 12
    slots[p.VIRTUAL], slots[p.PRIVILEGE] = MODES[mode]
    vcpu.state.pc = at or (GUEST if inside else RAM)
    return vcpu


def go(vcpu: Vcpu, instructions: int = 40) -> Seen:
    """Run on; what HS mode has in its registers then."""
    vcpu.vm.run(most=vcpu.retired + instructions)
    slots = vcpu.state.slots
    return Seen(*(slots[slot] for slot in (p.SCAUSE, p.STVAL, p.SEPC, p.HTVAL, p.HSTATUS)))


def mode_of(vcpu: Vcpu) -> str:
    """The mode that a hart is in."""
    slots = vcpu.state.slots
    return "M" if slots[p.PRIVILEGE] == p.MACHINE else NAMES[slots[p.VIRTUAL], slots[p.PRIVILEGE]]


def words_at(vcpu: Vcpu, address: int, words: Iterable[int]) -> None:
    """Put instructions there."""
    vcpu.vm.memory.poke(address, code_bytes(words))
