"""Synchronous exception causes (RISC-V Privileged ISA, table of mcause values).

Owns: the numbers and their names. Must not know: what a trap does.
"""

FETCH_MISALIGNED = 0
FETCH_FAULT = 1
ILLEGAL_INSTRUCTION = 2
BREAKPOINT = 3
LOAD_MISALIGNED = 4
LOAD_FAULT = 5
STORE_MISALIGNED = 6
STORE_FAULT = 7
USER_ECALL = 8
VS_ECALL = 10
FETCH_PAGE_FAULT = 12
LOAD_PAGE_FAULT = 13
STORE_PAGE_FAULT = 15
FETCH_GUEST_PAGE_FAULT = 20
LOAD_GUEST_PAGE_FAULT = 21
VIRTUAL_INSTRUCTION = 22
STORE_GUEST_PAGE_FAULT = 23

NAMES = {
    FETCH_MISALIGNED: "instruction address misaligned",
    FETCH_FAULT: "instruction access fault",
    ILLEGAL_INSTRUCTION: "illegal instruction",
    BREAKPOINT: "breakpoint",
    LOAD_MISALIGNED: "load address misaligned",
    LOAD_FAULT: "load access fault",
    STORE_MISALIGNED: "store/AMO address misaligned",
    STORE_FAULT: "store/AMO access fault",
    USER_ECALL: "environment call from U-mode",
    FETCH_PAGE_FAULT: "instruction page fault",
    LOAD_PAGE_FAULT: "load page fault",
    STORE_PAGE_FAULT: "store/AMO page fault",
}
GUEST_NAMES = {  # of a machine with the hypervisor extension
    FETCH_GUEST_PAGE_FAULT: "instruction guest-page fault",
    LOAD_GUEST_PAGE_FAULT: "load guest-page fault",
    VIRTUAL_INSTRUCTION: "virtual instruction",
    STORE_GUEST_PAGE_FAULT: "store/AMO guest-page fault",
}
# Whose trap value is an address of the program's: misaligned, access faults, breakpoints, page faults.
ADDRESS_VALUES = (0, 1, 3, 4, 5, 6, 7, 12, 13, 15, 20, 21, 23)
GUEST_FAULTS = {
    "load": LOAD_GUEST_PAGE_FAULT, "store": STORE_GUEST_PAGE_FAULT, "fetch": FETCH_GUEST_PAGE_FAULT,
}  # fmt: skip
FAULTS = {"load": LOAD_PAGE_FAULT, "store": STORE_PAGE_FAULT, "fetch": FETCH_PAGE_FAULT}
# si_code of those that are no page fault: ILL_ILLOPC, TRAP_BRKPT, BUS_ADRALN, SEGV_ACCERR; their si_addr is pc
# (arch/riscv/kernel/traps.c).
SIGNAL_CODES = {
    FETCH_MISALIGNED: 1, FETCH_FAULT: 2, ILLEGAL_INSTRUCTION: 1, BREAKPOINT: 1, LOAD_MISALIGNED: 1, LOAD_FAULT: 2,
    STORE_MISALIGNED: 1, STORE_FAULT: 2,
}  # fmt: skip
# What Linux sends to a process for each (arch/riscv: traps and page faults): SIGILL, SIGTRAP, SIGBUS, SIGSEGV.
SIGNALS = {
    FETCH_MISALIGNED: 7, FETCH_FAULT: 11, ILLEGAL_INSTRUCTION: 4, BREAKPOINT: 5, LOAD_MISALIGNED: 7,
    LOAD_FAULT: 11, STORE_MISALIGNED: 7, STORE_FAULT: 11,
    FETCH_PAGE_FAULT: 11, LOAD_PAGE_FAULT: 11, STORE_PAGE_FAULT: 11,
}  # fmt: skip
