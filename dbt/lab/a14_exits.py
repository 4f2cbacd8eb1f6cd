"""A14 and A18: the lecture's worked example: three exits of three instructions, and its console, from their values."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dbt.lab.report import Report
from dbt.lab.simple_monitor import METHODS, RESET, Monitor
from dbt.lab.workbench import asm, code_bytes, riscv
from guests.programs import virtual_file

PROGRAM = "skernel2"
ENTRY = 0x8020_0000
CONSOLE = f"""Bad instruction: 0xf14025f3 sepc: 0x80200000
LoadGuestPageFault: stval0x40 sepc: 0x80200004
VmxExit Reason: VSuperEcall: Some({RESET})
a0 = 0x6688, a1 = 0x1234
Shutdown vm normally!
Hypervisor ok!""".splitlines()
EXITS = [  # scause, stval, sepc, htval, htinst, hstatus
    (2, 0xF140_25F3, ENTRY, 0, 0, 0x2_0000_0180),
    (21, 0x40, ENTRY + 4, 0x10, 0, 0x2_0000_01C0),
    (10, 0, ENTRY + 10, 0, 0, 0x2_0000_0180),
]
OFFSET, ELSEWHERE = 0x10_0000, 72


def elsewhere(file: Path) -> Path:
    """The same guest with another address to load from, as a file that goes wherever it is put."""
    guest = riscv()
    call = Path(virtual_file(PROGRAM)).read_bytes()
    at = call.index(bytes.fromhex("f32540f1"))
    words = call[at : at + 4] + code_bytes([asm(guest, "ld", rd=10, rs1=0, imm=ELSEWHERE)]) + call[at + 8 : at + 14]
    file.write_bytes(words)
    return file


def run(report: Report) -> None:
    for method in METHODS:
        monitor = Monitor(virtual_file(PROGRAM), f"@{PROGRAM}", method)
        status = monitor.run()
        report.say(f"@{PROGRAM}, {method}")
        report.show("\n".join(monitor.lines))
        report.check(monitor.lines[3:] == CONSOLE and status == 0, "the console of the notes, line by line")
        report.check([tuple(exit) for exit in monitor.exits] == EXITS, "each exit has the values that hardware has")
        report.check(monitor.host_page != monitor.entry, f"its page is another one of the host's: {monitor.lines[2]}")
    with tempfile.TemporaryDirectory() as folder:
        monitor = Monitor(str(elsewhere(Path(folder, "moved"))), "moved", gpa=ENTRY + OFFSET)
        monitor.run()
    report.say(f"the same at {ENTRY + OFFSET:#x}, loading from {ELSEWHERE:#x}")
    report.show("\n".join(monitor.lines[3:5]))
    wanted = [f"Bad instruction: 0xf14025f3 sepc: {ENTRY + OFFSET:#x}",
              f"LoadGuestPageFault: stval{ELSEWHERE:#x} sepc: {ENTRY + OFFSET + 4:#x}"]  # fmt: skip
    report.check(monitor.lines[3:5] == wanted, "the lines are made of the exits' values")
