"""Para-virtualization: each call, what it refuses, the block that kernel and monitor share, and who is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pair import csr_word, word
from support.riscv import asm, words_to_bytes
from support.small import A0, A1, A2, ECALL, T0

from dbt.kvm import Kvm, Vcpu
from dbt.kvm.errors import NotParavirtual
from dbt.lab import c24_source
from dbt.machine.exits import Intr, SystemEvent
from dbt.options import Options
from guests.programs import virtual_file
from guests.riscv import paravirtual as pv
from guests.riscv import privileged as p
from guests.riscv import sbi

ROOT = Path(__file__).resolve().parents[2]
RAM, SIZE, PAGE = 0x8000_0000, 4 << 20, 0x1000
ENTRY, BLOCK, QUEUE, TABLES, PROGRAM = (RAM + n * PAGE for n in (1, 2, 3, 4, 8))
SPIN = asm("jal", rd=0, imm=0)
MASK = (1 << 64) - 1
SUPERVISOR, USER = 1, 0


@pytest.fixture(params=["dbt", "interp"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(engine: str, *words: int) -> Vcpu:
    """A kernel at the first of these instructions; its entry stays where it is."""
    vm = Kvm("pv", options=Options(patience=0), engine=engine).create_vm()
    vm.set_user_memory_region(0, RAM, SIZE)
    vm.write(RAM, words_to_bytes(words))
    vm.write(ENTRY, words_to_bytes([SPIN]))
    vcpu = vm.create_vcpu()
    vcpu.set(pc=RAM)
    return vcpu


def ask(vcpu: Vcpu, name: str | int, *arguments: int) -> tuple[int, int]:
    """Have the kernel, which executes ecalls alone, make a call: its error and its value."""
    number = pv.CALLS.index(name) if isinstance(name, str) else name
    given = dict(zip(("a0", "a1", "a2"), arguments))
    vcpu.set(a7=pv.EXTENSION, a6=number, pc=RAM, **given)
    at = vcpu.stats.total
    while vcpu.stats.total == at:
        vcpu.run(1)
    error = vcpu.get("a0")
    return error - (1 << 64) if error >> 63 else error, vcpu.get("a1")


def block(vcpu: Vcpu) -> dict[str, int]:
    words = struct.unpack(f"<{len(pv.BLOCK)}Q", vcpu.vm.read(BLOCK, 8 * len(pv.BLOCK)))
    return dict(zip(pv.BLOCK, words))


def put(vcpu: Vcpu, **words: int) -> None:
    for name, value in words.items():
        vcpu.vm.write(BLOCK + 8 * pv.BLOCK.index(name), value.to_bytes(8, "little"))


def asking(engine: str) -> Vcpu:
    """A kernel that has said where its entry is, and may be asked for more."""
    vcpu = made(engine, ECALL, SPIN)
    assert ask(vcpu, "set_entry", ENTRY, BLOCK) == (0, 0)
    return vcpu


def test_what_is_refused(engine: str) -> None:
    vcpu = made(engine, ECALL, SPIN)
    assert ask(vcpu, "set_entry", ENTRY, BLOCK + 4) == (sbi.INVALID_PARAM, 0)
    assert ask(vcpu, "set_entry", ENTRY + 2, BLOCK) == (sbi.INVALID_PARAM, 0)
    assert ask(vcpu, "set_entry", ENTRY, RAM + SIZE - 8) == (sbi.INVALID_ADDRESS, 0)
    assert ask(vcpu, "irq_disable") == (sbi.INVALID_ADDRESS, 0)  # there is no block yet
    assert ask(vcpu, "set_entry", ENTRY, BLOCK) == (0, 0)
    assert ask(vcpu, len(pv.CALLS)) == (sbi.NOT_SUPPORTED, 0) and ask(vcpu, MASK) == (sbi.NOT_SUPPORTED, 0)
    assert ask(vcpu, "multicall", QUEUE, pv.MOST + 1) == (sbi.INVALID_PARAM, 0)
    assert ask(vcpu, "multicall", RAM + SIZE, 1) == (sbi.INVALID_ADDRESS, 0)
    assert ask(vcpu, "set_leaf", 0x1000, 0, 0) == (sbi.INVALID_ADDRESS, 0)
    vcpu.vm.write(QUEUE, struct.pack("<8Q", *calls(("irq_disable",), ("multicall", QUEUE, 1))))
    assert ask(vcpu, "multicall", QUEUE, 2) == (sbi.INVALID_PARAM, 0)
    assert vcpu.stats.reasons["hypercall unknown"] == 2


def calls(*each: tuple[str | int, ...]) -> Iterator[int]:
    """Calls as an array of them has it."""
    for name, *arguments in each:
        assert isinstance(name, str)
        yield pv.CALLS.index(name)
        yield from (int(argument) for argument in (*arguments, 0, 0, 0)[: pv.ARGUMENTS])


def test_a_trap_of_a_program_is_in_the_block_and_resume_returns(engine: str) -> None:
    """By way of a stack of the kernel's, and with the registers that calls need as they were."""
    vcpu = asking(engine)
    vcpu.vm.write(PROGRAM, words_to_bytes([csr_word("csrrs", 0x142, {"rs1": 0}, A2), asm("addi", rd=A2, rs1=A0, imm=1),
                                           SPIN]))  # fmt: skip
    put(vcpu, pc=PROGRAM, user=1, stack=0x1110, a0=5, a1=6, a6=7, a7=8)
    vcpu.set(sp=0x2220, a7=pv.EXTENSION, a6=pv.CALLS.index("resume"), pc=RAM)
    vcpu.run(1)  # resume, then the program's illegal instruction
    assert vcpu.get("pc") in (PROGRAM, ENTRY)
    vcpu.run(2)
    assert vcpu.get("pc") == ENTRY and vcpu.get("mode") == SUPERVISOR and vcpu.get("sp") == 0x2220
    found = block(vcpu)
    assert (found["cause"], found["pc"], found["user"], found["stack"]) == (2, PROGRAM, 1, 0x1110)
    assert (found["a0"], found["a1"], found["a6"], found["a7"], found["enabled"]) == (5, 6, 7, 8, 0)
    put(vcpu, pc=PROGRAM + 4, a0=0x70)
    vcpu.set(a7=pv.EXTENSION, a6=pv.CALLS.index("resume"), pc=RAM)
    vcpu.run(2)
    assert vcpu.get("mode") == USER and vcpu.get("sp") == 0x1110 and vcpu.get("a2") == 0x71
    assert [vcpu.get(name) for name in ("a0", "a1", "a6", "a7")] == [0x70, 6, 7, 8]


def test_interrupts_wait_for_the_flag(engine: str) -> None:
    """The monitor is told that the timer's has come, once; the kernel sees it in the block, and asks for it."""
    vcpu = asking(engine)
    ask(vcpu, "set_timer", vcpu.get("time") + 2)
    vcpu.set(pc=RAM + 4)
    assert vcpu.run(1000) == Intr()
    assert vcpu.get("pc") == RAM + 4 and block(vcpu)["pending"] == 1
    assert vcpu.stats.reasons["supervisor timer interrupt"] == 1
    ask(vcpu, "irq_enable")
    vcpu.run(10)
    found = block(vcpu)
    assert vcpu.get("pc") == ENTRY and (found["cause"], found["user"], found["enabled"]) == (1 << 63 | 5, 0, 0)
    ask(vcpu, "set_timer", MASK)
    assert block(vcpu)["pending"] == 0
    put(vcpu, user=0)
    vcpu.set(a7=pv.EXTENSION, a6=pv.CALLS.index("resume"), pc=RAM)
    vcpu.run(3)
    assert vcpu.get("pc") == found["pc"] and block(vcpu)["enabled"] == 1  # as it was when the trap came


def test_the_flag_alone_lets_an_interrupt_in(engine: str) -> None:
    """A store while the guest runs, and no call."""
    vcpu = asking(engine)
    vcpu.vm.write(RAM + 4, words_to_bytes([asm("addi", rd=A0, rs1=0, imm=1), asm("sd", rs1=A1, rs2=A0, imm=0), SPIN]))
    vcpu.set(a1=BLOCK, pc=RAM + 4)
    before = vcpu.stats.total
    ticks = vcpu.get("time") + 3
    vcpu.set(compare=ticks)
    vcpu.run(1000)
    assert vcpu.get("pc") == ENTRY and vcpu.stats.reasons["supervisor timer interrupt"] == 1
    assert vcpu.stats.total == before + 2  # with the end of the run


def test_waiting(engine: str) -> None:
    """For what comes; not at all for what has come; and for nothing at all is the end of the run."""
    vcpu = asking(engine)
    ask(vcpu, "set_timer", 5000)
    ask(vcpu, "wait")
    vcpu.run(10)
    assert vcpu.get("time") >= 5000 and block(vcpu)["pending"] == 1
    now = vcpu.get("time")
    ask(vcpu, "wait")
    vcpu.run(10)
    assert vcpu.get("time") == now


@pytest.mark.parametrize("together", [False, True])
def test_a_leaf_holds_at_once(engine: str, together: bool) -> None:
    """The kernel loads from a page, has its entry changed, by a call or by one of many, and loads again."""
    load = asm("ld", rd=T0, rs1=A2, imm=0)
    vcpu = made(engine, ECALL, load, SPIN)
    ask(vcpu, "set_entry", ENTRY, BLOCK)
    window, first, second = 0x4000_0000, RAM + 16 * PAGE, RAM + 17 * PAGE
    leaf = lambda page: page >> 12 << 10 | 0xC7  # valid, read, write, accessed, dirty
    for at, entry in (
        (TABLES + 16, RAM >> 12 << 10 | 0xCF), (TABLES + 8, TABLES + PAGE >> 12 << 10 | 1),
        (TABLES + PAGE, TABLES + 2 * PAGE >> 12 << 10 | 1), (TABLES + 2 * PAGE, leaf(first)),
        (first, 1), (second, 2),
    ):  # fmt: skip
        vcpu.vm.write(at, entry.to_bytes(8, "little"))
    assert ask(vcpu, "set_tables", 8 << 60 | TABLES >> 12) == (0, 0) and vcpu.get("satp") == 8 << 60 | TABLES >> 12
    seen = []
    for change in (False, True):
        if change and together:
            vcpu.vm.write(QUEUE, struct.pack("<8Q", *calls(("set_leaf", TABLES + 2 * PAGE, leaf(second), window),
                                                           ("irq_disable",))))  # fmt: skip
            assert ask(vcpu, "multicall", QUEUE, 2) == (0, 2)
        elif change:
            ask(vcpu, "set_leaf", TABLES + 2 * PAGE, leaf(second), window)
        vcpu.set(a2=window, pc=RAM + 4)
        vcpu.run(2)
        seen.append(vcpu.get("t0"))
    assert seen == [1, 2] and vcpu.vm.read(TABLES + 2 * PAGE, 8) == leaf(second).to_bytes(8, "little")
    assert vcpu.stats.reasons["shadow fill"] == 0


def test_a_flush_is_a_fence(engine: str) -> None:
    vcpu = asking(engine)
    shadow = vcpu.vm.physical.shadow  # type: ignore[union-attr]
    vcpu.run(1)
    before = shadow.rebuilds
    ask(vcpu, "flush", MASK)
    vcpu.run(1)
    assert shadow.rebuilds == before + 1


@pytest.mark.parametrize(
    ("name", "instruction"),
    [("csrw satp", csr_word("csrrw", 0x180, {"rs1": A0}, 0)), ("csrr scause", csr_word("csrrs", 0x142, {}, A2)),
     ("csrci sstatus", asm("csrrci", rd=0, csr=0x100, imm=2)), ("sret", word("sret")), ("wfi", word("wfi")),
     ("sfence.vma", word("sfence.vma", rs1=0, rs2=0))],
)  # fmt: skip
def test_a_kernel_that_does_it_by_itself_is_refused(engine: str, name: str, instruction: int) -> None:
    vcpu = made(engine, asm("addi", rd=A1, rs1=0, imm=1), instruction)
    with pytest.raises(NotParavirtual, match=f"the guest is not para-virtualized: {name} at PC 0x80000004 "):
        vcpu.run()
    assert vcpu.get("a1") == 1 and vcpu.get("pc") == RAM + 4


def test_the_documents_say_how_much_of_the_source_was_changed() -> None:
    found = c24_source.differences(Path(virtual_file("quad")).parent)
    both, native, pv_alone = (found[build] for build in ("both", "native", "pv"))
    said = f"{both} are in both builds, {native} in the native one alone, and {pv_alone} in the other one alone"
    for page in ("docs/howto/compare.md", "docs/decisions/0031-para-virtualization.md"):
        assert said in " ".join((ROOT / page).read_text().split()), page


def test_lines_are_counted_by_their_builds() -> None:
    text = "#ifndef A_H|one||#ifdef PV|two|three|#else|four|#endif|#ifndef PV|five|#endif|#define X|#endif|"
    text = text.replace("|", "\n")
    assert c24_source.shares(text) == {"both": 1, "pv": 2, "native": 2}


def test_calls_of_sbi_are_what_they_are(engine: str) -> None:
    vcpu = made(engine, asm("addi", rd=17, rs1=0, imm=8), ECALL)
    assert vcpu.run() == SystemEvent(1)


def test_a_program_cannot_call_the_monitor(engine: str) -> None:
    """Its call is its kernel's, whatever is in its registers."""
    vcpu = asking(engine)
    vcpu.vm.write(PROGRAM, words_to_bytes([ECALL]))
    vcpu.set(mode=USER, pc=PROGRAM, a7=pv.EXTENSION, a6=pv.CALLS.index("set_entry"), a0=PROGRAM, a1=BLOCK)
    vcpu.run(1)
    assert vcpu.get("pc") == ENTRY and block(vcpu)["cause"] == 8 and vcpu.get("mode") == SUPERVISOR
    assert p.SUPERVISOR == SUPERVISOR
