"""What a machine's operations cost, beside qemu-system-riscv64: `python -m bench.system [--runs=3] [NAME...]`.

In the manner of SimBench (Wagstaff et al., ISPASS 2017): each program is a loop around one operation, a few words of
machine code that both emulators start in machine mode at the start of RAM. Told are nanoseconds of CPU for a turn of
the loop, the loop itself and the start of the emulator taken off, by a loop around nothing.
Owns: these loops, the table. Must not know: how either works.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dbt.lab.workbench import asm
from dbt.runs import Failed, measure, prepare
from guests.riscv import machine

GUEST = machine.guest()
RAM, CODE, HANDLER, PATCHED, DATA, TABLES = 0x8000_0000, 0x8000_0200, 0x8000_0800, 0x8000_1000, 0x8000_2000, 0x8000_4000
USER = 0xC000_0000  # where a program sees RAM,
USER_TEST = 0x4010_0000  # and the device that ends all
TEST, UART = 0x10_0000, 0x1000_0000
ABSENT, PAGES = 0x40_0000_0000 - 0x1000, 0x1_0000_0000  # nothing is there; many pages are one
MANY = 8192  # of them
T0, T1, T2, S0, S1, A0, A1, A2 = 5, 6, 7, 8, 9, 10, 11, 12
SSTATUS, SIE, STVEC, SSCRATCH, SEPC, SCAUSE, SIP, SATP = 0x100, 0x104, 0x105, 0x140, 0x141, 0x142, 0x144, 0x180
MSTATUS, MEDELEG, MIDELEG, MTVEC, MEPC, PMPCFG0, PMPADDR0 = 0x300, 0x302, 0x303, 0x305, 0x341, 0x3A0, 0x3B0
LEAF, USER_LEAF = 0xCF, 0xDF  # valid, all rights, accessed and dirty
Words = list[int]


def i(name: str, **fields: int) -> int:
    return asm(GUEST, name, **fields)


def li(rd: int, value: int) -> Words:
    """Load a constant."""
    if -2048 <= value < 2048:
        return [i("addi", rd=rd, rs1=0, imm=value)]
    low = (value & 0xFFF) - (value << 1 & 0x1000)
    add = [i("addi", rd=rd, rs1=rd, imm=low)] if low else []
    return [*li(rd, value - low >> 12), i("slli", rd=rd, rs1=rd, imm=12), *add]


def csrw(csr: int, value: int) -> Words:
    return [*li(T0, value), i("csrrw", rd=0, rs1=T0, csr=csr)]


def read(rd: int, csr: int) -> int:
    return i("csrrs", rd=rd, rs1=0, csr=csr)


class Operation(NamedTuple):
    """`before` is done once, `body` in each of `times` turns; in user mode, if it says so."""

    name: str
    about: str
    times: int
    body: Words
    before: Words = []
    user: bool = False


OPERATIONS = (
    Operation("loop", "nothing: what is taken off all others", 100_000, [i("addi", rd=0, rs1=0, imm=0)]),
    Operation("call", "a system call: user mode, handler, and back", 5_000_000, [i("ecall")], user=True),
    Operation("fault", "a load of a page that is not there, and its handler", 5_000_000,
              [i("ld", rd=T1, rs1=A0, imm=0)], li(A0, ABSENT)),
    Operation("interrupt", "an interrupt that software raises, and its handler", 100_000,
              [i("csrrsi", rd=0, imm=2, csr=SIP), i("addi", rd=0, rs1=0, imm=0)],
              [*csrw(SIE, 2), i("csrrsi", rd=0, imm=2, csr=SSTATUS)]),
    Operation("spaces", "two changes of address space, a load in each", 2_000_000,
              [i("csrrw", rd=0, rs1=A0, csr=SATP), i("ld", rd=T1, rs1=A2, imm=0), i("csrrw", rd=0, rs1=A1, csr=SATP),
               i("ld", rd=T1, rs1=A2, imm=0)],
              [*li(A0, 8 << 60 | 1 << 44 | TABLES >> 12), *li(A1, 8 << 60 | 2 << 44 | TABLES >> 12), *li(A2, DATA)]),
    Operation("fence", "a fence of all translations, and a load", 2_000_000,
              [i("sfence.vma", rs1=0, rs2=0), i("ld", rd=T1, rs1=A2, imm=0)], li(A2, DATA)),
    Operation("pages", f"a load of each of {MANY:,} pages in turn", 5_000_000,
              [i("ld", rd=T1, rs1=A0, imm=0), i("addi", rd=S1, rs1=S1, imm=1), i("slli", rd=T1, rs1=S1, imm=51),
               i("srli", rd=T1, rs1=T1, imm=39), i("add", rd=A0, rs1=T1, rs2=A1)],
              [*li(A0, PAGES), *li(A1, PAGES), *li(S1, 0)]),
    Operation("csr", "an exchange with sscratch", 20_000_000, [i("csrrw", rd=T1, rs1=T1, csr=SSCRATCH)]),
    Operation("mask", "interrupts masked, and unmasked", 5_000_000,
              [i("csrrci", rd=0, imm=2, csr=SSTATUS), i("csrrsi", rd=0, imm=2, csr=SSTATUS)]),
    Operation("device", "a read of the serial port's state", 100_000, [i("lb", rd=T1, rs1=A0, imm=5)], li(A0, UART)),
    Operation("code", "an instruction is written, and executed behind fence.i", 50_000,
              [i("lw", rd=T1, rs1=A0, imm=0), i("xor", rd=T1, rs1=T1, rs2=A1), i("sw", rs1=A0, rs2=T1, imm=0),
               i("fence.i", imm=0, rs1=0, rd=0), i("jalr", rd=1, rs1=A0, imm=0)], [*li(A0, PATCHED), *li(A1, 1 << 20)]),
    Operation("jump", "an indirect call into another page, and back", 10_000_000, [i("jalr", rd=1, rs1=A0, imm=4)],
              li(A0, PATCHED)),
)  # fmt: skip


def image(operation: Operation) -> bytes:
    """Machine mode gives all away and goes to the loop, by a page table of whole gigabytes and many pages."""
    test, base = (USER_TEST, USER - RAM) if operation.user else (TEST, 0)
    loop = [*operation.body, i("addi", rd=S0, rs1=S0, imm=-1)]
    loop.append(i("bne", rs1=S0, rs2=0, imm=-4 * len(loop)))
    code = [*operation.before, *li(S0, operation.times), *loop, *li(T0, test), *li(T1, 0x5555),
            i("sw", rs1=T0, rs2=T1, imm=0), i("jal", rd=0, imm=0)]  # fmt: skip
    mode = 0 if operation.user else 1 << 11
    start = [*csrw(PMPADDR0, (1 << 54) - 1), *csrw(PMPCFG0, 0x1F), *csrw(MEDELEG, 0xB1FF), *csrw(MIDELEG, 0x222),
             *csrw(STVEC, HANDLER), *csrw(SATP, 8 << 60 | TABLES >> 12), *csrw(MSTATUS, mode),
             *csrw(MEPC, CODE + base), i("mret")]  # fmt: skip
    handler = [read(T0, SCAUSE), i("bge", rs1=T0, rs2=0, imm=12), i("csrrci", rd=0, imm=2, csr=SIP), i("sret"),
               # an exception: on behind the instruction
               read(T0, SEPC), i("addi", rd=T0, rs1=T0, imm=4), i("csrrw", rd=0, rs1=T0, csr=SEPC),
               i("sret")]  # fmt: skip
    patched = [i("addi", rd=A2, rs1=A2, imm=1), i("jalr", rd=0, rs1=1, imm=0)]
    made = bytearray(TABLES - RAM + 0x1000 * (2 + MANY // 512))

    def put(at: int, words: Words, size: int = 4) -> None:
        data = b"".join(word.to_bytes(size, "little") for word in words)
        made[at - RAM : at - RAM + len(data)] = data

    for at, words in ((RAM, start), (CODE, code), (HANDLER, handler), (PATCHED, patched)):
        put(at, words)
    middle = TABLES + 0x1000
    root = LEAF, USER_LEAF, RAM >> 2 | LEAF, RAM >> 2 | USER_LEAF, middle >> 2 | 1
    for index, entry in enumerate(root):
        put(TABLES + 8 * index, [entry], 8)
    for index in range(MANY // 512):
        table = middle + 0x1000 * (1 + index)
        put(middle + 8 * index, [table >> 2 | 1], 8)
        put(table, [DATA >> 2 | LEAF] * 512, 8)
    return bytes(made)


class Bench:
    """Runs programs, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        qemu = shutil.which("qemu-system-riscv64")
        if qemu is None:
            raise Failed("qemu-system-riscv64 is not installed: install the package qemu-system-misc")
        self._fronts = {"qemu": [qemu, "-machine", "virt"], "dragoman": [sys.executable, "-m", "dragoman", "boot"]}

    def seconds(self, operation: Operation, way: str) -> float:
        """Seconds of CPU of one run. Raises Failed."""
        path = self._folder / operation.name
        path.write_bytes(image(operation))
        words = [*self._fronts[way], "-nographic", "-m", "16", "-bios", str(path)]
        sample = measure(words, env={"DRAGOMAN_CACHE_DIR": str(self._folder / "kept")}, longest=300.0)
        if sample.status:
            raise Failed(f"{way}: the program {operation.name} ended with status {sample.status}")
        return sample.cpu


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.system", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(each.name for each in OPERATIONS[1:]))
    options = parser.parse_args(words)
    unknown = sorted(set(options.names) - {each.name for each in OPERATIONS})
    if unknown or options.runs < 1:
        parser.error(f"there is no operation {unknown[0]}" if unknown else "at least one run")
    prepare()
    ways = ("qemu", "dragoman")
    with tempfile.TemporaryDirectory(prefix="system") as folder:
        try:
            bench = Bench(Path(folder))
            bench.seconds(OPERATIONS[0], "dragoman")  # stencils are made
            print(f"{'ns a turn':10}{'qemu':>10}{'dragoman':>10}{'ratio':>8}")
            taken_off = {way: statistics.median(bench.seconds(OPERATIONS[0], way) for _ in range(options.runs))
                         for way in ways}  # fmt: skip
            for operation in OPERATIONS[1:]:
                if options.names and operation.name not in options.names:
                    continue
                cost = {}
                for way in ways:
                    spent = statistics.median(bench.seconds(operation, way) for _ in range(options.runs))
                    cost[way] = (spent - taken_off[way]) / operation.times * 1e9
                ratio = f"{cost['dragoman'] / cost['qemu']:8.2f}" if cost["qemu"] > 0 else "       -"
                print(f"{operation.name:10}{cost['qemu']:10.1f}{cost['dragoman']:10.1f}{ratio}  {operation.about}",
                      flush=True)  # fmt: skip
        except Failed as failure:
            sys.stderr.write(f"{failure}\n")
            return 125
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
