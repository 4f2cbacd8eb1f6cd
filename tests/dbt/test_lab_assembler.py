"""The lab's assembler reads what disassembly prints, of every row; and says what is wrong."""

from __future__ import annotations

from random import Random

import pytest
from support.riscv import scaled

import guests
from dbt.lab.assembler import AssemblyError, assemble
from dbt.lab.workbench import riscv
from guests.decode import layout
from guests.spec import Guest

PC = 0x10000
UNSAID = {"fence", "fence.i", "c.nop"}  # have bits that mean nothing and are not printed
GUESTS = (guests.load("riscv64"), riscv(), guests.load("toy"))


@pytest.mark.parametrize("guest", GUESTS, ids=["process", "machine", "toy"])
def test_it_reads_what_is_printed(guest: Guest) -> None:
    rng, seen = Random(11), set()
    for row in guest.rows:
        shape = layout(row.pattern)
        for _ in range(scaled(40)):
            decoded = guest.decode(rng.getrandbits(8 * shape.length) & ~shape.mask | shape.match)
            if decoded is None:
                continue
            seen.add(decoded.row.name)
            text = guest.disassemble(decoded, PC)
            (word,) = assemble(guest, text, PC).words
            again = guest.decode(word)
            assert again is not None and guest.disassemble(again, PC) == text
            if not text.startswith(("fence", "c.nop")):
                assert (again.row, repr(again.operands)) == (decoded.row, repr(decoded.operands)), text
    assert UNSAID & seen == UNSAID & {row.name for row in guest.rows} and len(seen) > 0.9 * len(
        {row.name for row in guest.rows if row.body is not None}
    )


def test_labels_shorthands_and_sizes() -> None:
    text = """
      # a loop
    start: li a0, 10
           li t0, 0x12345678 // two instructions
    loop:  c.addi a0, -1
           bnez a0, loop
           csrsi fflags, 1
           mv a1,a0
           j start
           ret
           la a2, start
           addi a0, a0, '0'
           .word 0xffffffff
    """
    made = assemble(GUESTS[0], text, PC)
    guest = GUESTS[0]
    assert made.labels == {"start": PC, "loop": PC + 12} and made.words[-1] == 0xFFFF_FFFF
    shown, pc = [], PC
    for word in made.words[:-1]:
        decoded = guest.decode(word)
        assert decoded is not None
        shown.append(guest.disassemble(decoded, pc))
        pc += decoded.length
    assert shown == [
        "addi a0, zero, 10", "lui t0, 0x12345", "addiw t0, t0, 1656", "c.addi a0, -1", f"bne a0, zero, {PC + 12:#x}",
        "csrrsi zero, fflags, 1", "addi a1, a0, 0", f"jal zero, {PC:#x}", "jalr zero, 0(ra)",
        "auipc a2, 0x0", "addi a2, a2, -34", "addi a0, a0, 48",
    ]  # fmt: skip
    assert made.where(PC + 12) == "line 5" and made.where(PC + 13) == hex(PC + 13)


def test_li_loads_every_number() -> None:
    rng = Random(12)
    from dbt.lab.workbench import Machine

    numbers = [-(1 << 31), -2049, -2048, -1, 0, 2047, 2048, (1 << 31) - 1, *(rng.randint(-(1 << 31), (1 << 31) - 1)
               for _ in range(scaled(100)))]  # fmt: skip
    for number in numbers:
        with Machine(GUESTS[0], assemble(GUESTS[0], f"li a0, {number}\nebreak", PC).words) as machine:
            machine.call()
            assert machine.get("a0") == number & (1 << 64) - 1


@pytest.mark.parametrize(("text", "said"), [
    ("addd a0, a1, a2", "line 1: there is no instruction 'addd'"),
    ("\nadd a0, a1", "line 2: it is written `add rd, rs1, rs2`"),
    ("add a0, a1, q2", "line 1: there is no register 'q2'"),
    ("addi a0, a1, 4096", "line 1: addi: imm=4096 cannot be encoded"),
    ("addi a0, a1, x", "line 1: 'x' is no number"),
    ("beq a0, a1, there", "line 1: 'there' is no label"),
    ("here: nop\nhere: nop", "line 2: there are two labels here"),
    ("csrrw a0, nothing, a1", "line 1: there is no CSR 'nothing'"),
    ("csrr a0", "line 1: it is written `csrr rd, csr`"),
    ("la a0, nowhere", "line 1: 'nowhere' is no label"),
    ("ret a0", "line 1: it is written `ret`"),
    ("li a0, 0x100000000", "line 1: li takes a register and a number of 32 bits, with its sign"),
    (".word x", "line 1: .word takes a number of 32 bits"),
    ("c.addi4spn a0, sp, 3", "cannot be encoded"),
])  # fmt: skip
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(AssemblyError) as error:
        assemble(GUESTS[0], text, PC)
    assert said in str(error.value)
    with pytest.raises(AssemblyError, match="no instruction 'li'"):
        assemble(GUESTS[2], "li r1, 1", PC)
