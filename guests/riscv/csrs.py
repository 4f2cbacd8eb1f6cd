"""Control and status registers of a process as one table: number, name, class, how bodies read and write them.

The counters of Zihpm count no event and read as 0, which the manual lets a platform choose.
Owns: the user-level CSRs (Unprivileged ISA, counters and F; Privileged ISA, CSR listing), and what a CSR is.
Must not know: engines, the CSRs of a machine (`privileged_csrs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from guests.riscv.registers import FFLAGS, FRM
from guests.spec import Treat

TICKS = 100  # retired instructions a tick of `time` in virtual time: 10 MHz at one instruction a ns


def allowed(m):
    """A process may reach all the CSRs that it has."""


class Csr(NamedTuple):
    """One CSR. `write` is None where it is read-only (its number says so as well: bits 11:10 are 11).

    `check` comes before either and refuses what the mode may not do. `stored` is what instructions that set or clear
    bits start from, where that is not what `read` gives.
    """

    number: int
    name: str
    treat: Treat
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None] | None
    ends_block: bool  # whether an instruction that writes it ends the architectural block
    check: Callable[[Any], None] = allowed
    stored: Callable[[Any], Any] | None = None


def read_fflags(m):
    """What bodies raised and what the host accrued since."""
    return m.or_(m.s[FFLAGS], m.host_flags())


def write_fflags(m, value):
    m.s[FFLAGS] = m.and_(value, 31)
    m.clear_host_flags()


def read_frm(m):
    return m.s[FRM]


def write_frm(m, value):
    mode = m.and_(value, 7)
    m.s[FRM] = mode
    m.set_host_rounding(mode)


def read_fcsr(m):
    return m.or_(m.shl(read_frm(m), 5), read_fflags(m))


def write_fcsr(m, value):
    write_fflags(m, value)
    write_frm(m, m.shr(value, 5))


def read_counter(m):
    return m.instret()


def read_time(m):
    return m.wall_clock()


def read_nothing(m):
    return 0


HPM_COUNTERS = range(0xC03, 0xC20)
CSRS = {
    csr.number: csr
    for csr in (
        Csr(0x001, "fflags", Treat.INLINE, read_fflags, write_fflags, False),
        Csr(0x002, "frm", Treat.INLINE, read_frm, write_frm, False),
        Csr(0x003, "fcsr", Treat.INLINE, read_fcsr, write_fcsr, False),
        Csr(0xC00, "cycle", Treat.INLINE, read_counter, None, False),
        Csr(0xC01, "time", Treat.CALLOUT, read_time, None, False),
        Csr(0xC02, "instret", Treat.INLINE, read_counter, None, False),
        *(Csr(n, f"hpmcounter{n & 31}", Treat.INLINE, read_nothing, None, False) for n in HPM_COUNTERS),
    )
}
EXTENSION = {
    0x001: "f", 0x002: "f", 0x003: "f", 0xC00: "zicntr", 0xC01: "zicntr", 0xC02: "zicntr",
    **dict.fromkeys(HPM_COUNTERS, "zihpm"),
}  # fmt: skip
