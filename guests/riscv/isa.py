"""ISA strings in the manual's naming (Unprivileged ISA, chapter on naming), and the guest they select.

Owns: which extensions exist here, and building a `Guest` from a string such as `rv64gc` or
`rv64imafdc_zicsr_zifencei_zicntr`. Must not know: what an instruction does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from guests.decode import Decoder
from guests.riscv import csrs, disasm, planned, registers, traps, zicsr
from guests.riscv.rv64a import A
from guests.riscv.rv64d import D
from guests.riscv.rv64f import F
from guests.riscv.rv64i import I
from guests.riscv.rv64m import M
from guests.riscv.rvc import C
from guests.riscv.table import Extension
from guests.riscv.zawrs import ZAWRS
from guests.riscv.zba import ZBA
from guests.riscv.zbb import ZBB
from guests.riscv.zbc import ZBC
from guests.riscv.zbs import ZBS
from guests.riscv.zcb import ZCB
from guests.riscv.zfa import ZFA
from guests.riscv.zfhmin import ZFHMIN
from guests.riscv.zicbo import ZICBOM, ZICBOP, ZICBOZ
from guests.riscv.zicond import ZICOND
from guests.riscv.zifencei import ZIFENCEI
from guests.riscv.zihintpause import ZIHINTPAUSE
from guests.riscv.zimop import ZCMOP, ZIMOP
from guests.spec import Guest, Row

# In the manual's order of names.
DEFAULT = (
    "rv64gc_zicbom_zicbop_zicboz_zicntr_zicond_zihintpause_zihpm_zimop_zawrs_zfa_zfhmin_zcb_zcmop_zba_zbb_zbc_zbs"
)
EXTENSIONS = (
    I, M, A, F, D, C, zicsr.ZICSR, ZIFENCEI,
    ZBA, ZBB, ZBS, ZBC, ZICOND, ZICBOM, ZICBOP, ZICBOZ, ZAWRS, ZIHINTPAUSE, ZFA, ZFHMIN,
    ZCB, ZIMOP, ZCMOP,
)  # fmt: skip
ECALL = 0x73  # the whole instruction
NAMES = frozenset({e.name for e in EXTENSIONS} | {"zicntr", "zihpm"})
IMPLIES = {
    "d": ("f",), "f": ("zicsr",), "zicntr": ("zicsr",), "zihpm": ("zicsr",), "zfa": ("f",), "zfhmin": ("f",),
    "zcb": ("c",), "zcmop": ("c",),
}  # fmt: skip
# Properties of memory that hold here whatever the string says: fetches, reservations and atomics of main memory work,
# misaligned loads and stores too; reservation sets and cache blocks have 64 bytes at most and exactly.
PROPERTIES = frozenset({"ziccif", "ziccrse", "ziccamoa", "zicclsm", "za64rs", "za128rs", "zic64b"})
GROUPS = {"g": ("i", "m", "a", "f", "d", "zicsr", "zifencei"), "b": ("zba", "zbb", "zbs")}  # letters for several
# All that is mandatory but Zkt: how long an instruction takes is nothing that can be promised here.
PROFILES = {
    "rva22u64": "rv64gcb_zic64b_zicbom_zicbop_zicboz_ziccamoa_ziccif_zicclsm_ziccrse_zicntr_zihintpause_zihpm_za64rs"
    "_zfhmin"
}


class UnknownIsa(ValueError):
    """The ISA string is malformed or names an extension that is not implemented; the message says which."""


def parse(text: str) -> frozenset[str]:
    """The extensions that an ISA string names, with those they imply."""
    lower = PROFILES.get(text.lower(), text.lower())
    m = re.fullmatch(r"rv64([a-y]+)((?:_?z[a-z]+)?(?:_z[a-z0-9]+)*)", lower)
    if m is None:
        raise UnknownIsa(f"ISA string {text!r} is not of the form rv64imafdc_zicsr_...")
    names = [*m[1], *(n for n in m[2].split("_") if n)]
    if names[0] not in "ig":
        raise UnknownIsa(f"ISA string {text!r} must begin with rv64i or rv64g")
    found: set[str] = set()
    for name in names:
        for one in () if name in PROPERTIES else GROUPS.get(name, (name,)):
            if one not in NAMES:
                raise UnknownIsa(f"ISA string {text!r}: extension {one!r} is not implemented (known: {known()})")
            found.add(one)
            found.update(IMPLIES.get(one, ()))
    if "f" in found:
        found.add("zicsr")
    return frozenset(found)


def known() -> str:
    """The names that an ISA string may contain, for messages."""
    return " ".join(sorted(NAMES | PROPERTIES, key=lambda n: (len(n) > 1, n)))


def rows(features: frozenset[str], own: Sequence[Extension] = ()) -> list[Row]:
    """Every row whose extensions are all present; those on CSRs know only the CSRs of the extensions present."""
    present = {number: csr for number, csr in csrs.CSRS.items() if csrs.EXTENSION[number] in features}
    extensions = (zicsr.extension(present) if extension is zicsr.ZICSR else extension for extension in EXTENSIONS)
    return [row for extension in (*extensions, *own) for row in extension.rows if row.requires <= features]


def guest(isa: str | None = None, own: Sequence[Extension] = ()) -> Guest:
    """The RISC-V guest with the extensions of an ISA string (None: all there are), and the user's own.

    Of the latter the string says nothing. Without them, the same string is the same value. Raises UnknownIsa,
    BadExtension.
    """
    isa = isa or DEFAULT
    if not own:
        return _standard(isa)
    from guests.riscv import custom  # it builds every body, for which it needs the translator's builder

    features = parse(isa)
    custom.check_names(own, rows(features))
    made = _guest(isa, features | {extension.name for extension in own}, own)
    custom.check_rows(own, made)
    return made


@cache
def _standard(isa: str) -> Guest:
    return _guest(isa, parse(isa), ())


def _guest(isa: str, features: frozenset[str], own: Sequence[Extension]) -> Guest:
    from guests.riscv import linux

    table = rows(features, own)
    return Guest(
        name="riscv64",
        isa=isa,
        registers=registers.REGISTERS,
        slots=registers.SLOTS,
        decode=Decoder(table, registers.SINK),
        rows=table,
        disassemble=disasm.text,
        link=registers.link,
        flags_slot=registers.FFLAGS,
        rounding_slot=registers.FRM,
        zero_slot=registers.X,
        sink_slot=registers.SINK,
        stack_slot=registers.X + 2,
        floats=range(registers.F, registers.F + 32),
        syscall_cause=traps.USER_ECALL,
        illegal_cause=traps.ILLEGAL_INSTRUCTION,
        breakpoint_cause=traps.BREAKPOINT,
        fetch_misaligned_cause=traps.FETCH_MISALIGNED,
        fault_causes=traps.FAULTS,
        align=2 if "c" in features else 4,
        trap_names=traps.NAMES,
        syscall_length=4,
        syscall_word=ECALL,
        signals=traps.SIGNALS,
        signal_codes=traps.SIGNAL_CODES,
        hot_slots=registers.HOT,
        reset_on_trap=(registers.RESERVED_SIZE,),
        linux=linux,
        elf_machine=243,
        features=features,
        own=tuple(extension.name for extension in own),
        planned=[row for extension in planned.EXTENSIONS for row in extension.rows],
        ticks=csrs.TICKS,
    )
